//! How much memory a run may take here.

use std::fs;
use std::path::Path;

/// What a process maps besides its heap: the ledger (128 MiB), programs, libraries.
const MAPPED_BYTES: u64 = 160 << 20;

/// Gives the bytes that are free for a new process: the machine's, or what the
/// control groups above us leave; `None` where neither says.
pub(super) fn free_bytes() -> Option<u64> {
    let machine = fs::read_to_string("/proc/meminfo")
        .ok()
        .and_then(|text| available(&text));
    let group = fs::read_to_string("/proc/self/cgroup")
        .ok()
        .and_then(|text| group_free(&text, Path::new("/sys/fs/cgroup")));
    machine.into_iter().chain(group).min()
}

fn available(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib << 10)
}

/// The tightest of the memory groups from ours to the root, in either layout.
fn group_free(own: &str, root: &Path) -> Option<u64> {
    // `number:controllers:/path`; the line without controllers is that of version 2.
    let groups = own.lines().filter_map(|line| {
        let (_, line) = line.split_once(':')?;
        let (controllers, path) = line.split_once(":/")?;
        match controllers {
            "" => Some((&V2, root.to_owned(), path)),
            _ if controllers.split(',').any(|name| name == "memory") => {
                Some((&V1, root.join(controllers), path))
            }
            _ => None,
        }
    });
    let left = groups.filter_map(|(files, root, path)| {
        let group = root.join(path);
        let up = group.ancestors().take_while(|up| up.starts_with(&root));
        up.filter_map(|group| files.left_in(group)).min()
    });
    left.min()
}

/// How a version of control groups calls its figures.
struct Files {
    limit: &'static str,
    used: &'static str,
    /// What was read from files and can be read again, in `memory.stat`.
    cached: [&'static str; 2],
}

const V2: Files = Files {
    limit: "memory.max",
    used: "memory.current",
    cached: ["inactive_file", "active_file"],
};
const V1: Files = Files {
    limit: "memory.limit_in_bytes",
    used: "memory.usage_in_bytes",
    cached: ["total_inactive_file", "total_active_file"],
};

impl Files {
    fn left_in(&self, group: &Path) -> Option<u64> {
        let number = |file: &str| -> Option<u64> {
            let text = fs::read_to_string(group.join(file)).ok()?;
            text.trim().parse().ok()
        };
        // "max" is no number, and no limit.
        let limit = number(self.limit)?;
        let stat = fs::read_to_string(group.join("memory.stat")).unwrap_or_default();
        let cached = stat.lines().filter_map(|line| {
            let (name, bytes) = line.split_once(' ')?;
            let bytes: u64 = bytes.trim().parse().ok()?;
            self.cached.contains(&name).then_some(bytes)
        });
        let used = number(self.used)?.saturating_sub(cached.sum());
        Some(limit.saturating_sub(used))
    }
}

/// Gives what `ulimit -v` leaves a process of ours; `None` without a limit.
pub(super) fn address_space_bytes() -> Option<u64> {
    let limit = rustix::process::getrlimit(rustix::process::Resource::As).current?;
    Some(limit.saturating_sub(MAPPED_BYTES))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_says_what_is_available() {
        let text = "MemTotal:       24570000 kB\nMemAvailable:    1048576 kB\n";
        assert_eq!(available(text), Some(1 << 30));
        assert_eq!(available("MemTotal: 1 kB\n"), None);
    }

    #[test]
    fn the_tightest_group_counts() {
        let root = tempfile::tempdir().unwrap();
        let inner = root.path().join("a/b");
        fs::create_dir_all(&inner).unwrap();
        let write = |group: &Path, max: &str, current: &str| {
            fs::write(group.join("memory.max"), max).unwrap();
            fs::write(group.join("memory.current"), current).unwrap();
        };
        write(&inner, "max\n", "5\n");
        assert_eq!(group_free("0::/a/b\n", root.path()), None);
        write(&root.path().join("a"), "1000\n", "400\n");
        assert_eq!(group_free("0::/a/b\n", root.path()), Some(600));
        write(&inner, "100\n", "400\n");
        assert_eq!(group_free("0::/a/b\n", root.path()), Some(0));
    }
    #[test]
    fn what_was_read_from_files_is_as_good_as_free() {
        let root = tempfile::tempdir().unwrap();
        let write = |file: &str, text: &str| {
            let path = root.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("memory.max", "1000\n");
        write("memory.current", "990\n");
        assert_eq!(group_free("0::/\n", root.path()), Some(10));
        write(
            "memory.stat",
            "anon 190\nfile 800\nshmem 100\ninactive_file 600\nactive_file 100\n",
        );
        assert_eq!(group_free("0::/\n", root.path()), Some(710));

        // Version 1, seen from a container whose group has another name outside.
        write("memory/memory.limit_in_bytes", "500\n");
        write("memory/memory.usage_in_bytes", "450\n");
        write(
            "memory/memory.stat",
            "active_file 1\ntotal_inactive_file 40\ntotal_active_file 10\n",
        );
        let own = "5:devices:/\n4:memory:/docker/4711\n0::/\n";
        assert_eq!(group_free(own, root.path()), Some(100));
        assert_eq!(group_free("5:devices:/\n", root.path()), None);
    }
}
