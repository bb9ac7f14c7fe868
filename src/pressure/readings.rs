//! What the kernel knows: control groups, stalls, resident sets. Linux, cgroup v2.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Component, Path, PathBuf};

use super::limits::GroupMemory;

/// Tasks that waited for memory for 200 ms in 2 s. Windows of whole 2 s are what
/// the kernel allows anybody.
const STALL: &[u8] = b"some 200000 2000000\0";
/// Nobody nests control groups deeper.
const MAX_GROUPS: usize = 64;

/// The control group of a process and those above it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ControlGroup {
    /// From its own to the topmost that can be seen.
    directories: Vec<PathBuf>,
}

impl ControlGroup {
    /// Finds this process's; `None` where there is no cgroup v2.
    pub fn own() -> Option<ControlGroup> {
        ControlGroup::find(Path::new("/proc"), "self")
    }

    /// Finds another process's, also if that sees other mounts than we do.
    pub fn of(pid: u32) -> Option<ControlGroup> {
        ControlGroup::find(Path::new("/proc"), &pid.to_string())
    }

    fn find(proc: &Path, process: &str) -> Option<ControlGroup> {
        let groups = fs::read_to_string(proc.join(process).join("cgroup")).ok()?;
        let path = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
        let mounts = fs::read_to_string(proc.join("self/mountinfo")).ok()?;
        let mut mounts = mounts.lines().filter_map(group_mount);
        mounts.find_map(|(root, mount)| ControlGroup::below(&mount, &root, path))
    }

    /// The group at `path` of a hierarchy of which `root` and what is below it are mounted.
    fn below(mount: &Path, root: &str, path: &str) -> Option<ControlGroup> {
        // A process outside our namespace is in "/../somewhere": not to be seen from here.
        let inside = Path::new(path).strip_prefix(root).ok()?;
        let is_plain = |part| matches!(part, Component::Normal(_));
        if !inside.components().all(is_plain) {
            return None;
        }
        let own = mount.join(inside);
        let up = own.ancestors().take_while(|group| group.starts_with(mount));
        let directories = up.take(MAX_GROUPS).map(Path::to_owned).collect();
        Some(ControlGroup { directories })
    }

    /// Reads the group that leaves least, of those with a limit.
    pub fn read(&self) -> Option<GroupMemory> {
        let groups = self.directories.iter();
        groups
            .filter_map(|group| read_group(group))
            .min_by_key(GroupMemory::left_bytes)
    }

    /// Where the kernel reports that the group's own tasks wait for memory.
    fn pressure_file(&self) -> Option<PathBuf> {
        let file = self.directories.first()?.join("memory.pressure");
        file.exists().then_some(file)
    }
}

/// Reads what of a cgroup v2 mount is mounted where.
fn group_mount(line: &str) -> Option<(String, PathBuf)> {
    let (mount, file_system) = line.split_once(" - ")?;
    let is_group = file_system.split(' ').next() == Some("cgroup2");
    let mut fields = mount.split(' ').skip(3);
    let (root, at) = (fields.next()?, fields.next()?);
    is_group.then(|| (unescape(root), PathBuf::from(unescape(at))))
}

/// Blanks and the like stand as `\040` in mountinfo.
fn unescape(text: &str) -> String {
    let escapes = [
        ("\\040", " "),
        ("\\011", "\t"),
        ("\\012", "\n"),
        ("\\134", "\\"),
    ];
    escapes
        .iter()
        .fold(text.to_owned(), |text, (from, to)| text.replace(from, to))
}

fn read_group(group: &Path) -> Option<GroupMemory> {
    // "max" is no number, and no limit.
    let number = |file: &str| {
        fs::read_to_string(group.join(file))
            .ok()?
            .trim()
            .parse()
            .ok()
    };
    let limits: [Option<u64>; 2] = [number("memory.high"), number("memory.max")];
    let statistics = fs::read_to_string(group.join("memory.stat")).unwrap_or_default();
    let inactive_file = statistics
        .lines()
        .find_map(|line| line.strip_prefix("inactive_file "));
    Some(GroupMemory {
        limit_bytes: limits.into_iter().flatten().min()?,
        current_bytes: number("memory.current")?,
        inactive_file_bytes: inactive_file
            .and_then(|text| text.trim().parse().ok())
            .unwrap_or(0),
    })
}

/// Asks the kernel to tell when tasks wait for memory: in the group, else anywhere.
///
/// `poll` for POLLPRI; POLLERR says that the group is gone. `watch` is
/// MEMORY_PRESSURE_WATCH of the environment, by which a service manager says
/// where to look: `/dev/null` is off (`Ok(None)`), any other file comes first.
/// Sockets and FIFOs, which that protocol also allows, speak otherwise and are
/// left to others.
///
/// # Errors
/// Where the kernel keeps no such books, or refuses: the last file's error.
pub fn watch_stalls(
    group: Option<&ControlGroup>,
    watch: Option<&OsStr>,
) -> io::Result<Option<File>> {
    watch_first(group, watch, Path::new("/proc/pressure/memory"))
}

fn watch_first(
    group: Option<&ControlGroup>,
    watch: Option<&OsStr>,
    machine: &Path,
) -> io::Result<Option<File>> {
    if watch == Some(OsStr::new("/dev/null")) {
        return Ok(None);
    }
    let named = watch.map(PathBuf::from).filter(|path| path.is_file());
    let own = group.and_then(ControlGroup::pressure_file);
    for file in named.into_iter().chain(own) {
        if let Ok(file) = watch_file(&file) {
            return Ok(Some(file));
        }
    }
    watch_file(machine).map(Some)
}

fn watch_file(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    let mut file = options
        .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
        .open(path)?;
    file.write_all(STALL)?;
    Ok(file)
}

/// Reads the resident set of a process; `None` when it is gone.
pub fn resident_bytes(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
    // SAFETY: sysconf only reads its argument and may be called at any time (sysconf(3)).
    let page_bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    resident(&text, u64::try_from(page_bytes).ok()?)
}

fn resident(statm: &str, page_bytes: u64) -> Option<u64> {
    let pages: u64 = statm.split_ascii_whitespace().nth(1)?.parse().ok()?;
    pages.checked_mul(page_bytes)
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    /// A /proc and a hierarchy of groups, of which `root` is mounted.
    fn fixture(root: &str, path: &str) -> (tempfile::TempDir, Option<ControlGroup>) {
        let fixture = tempfile::tempdir().unwrap();
        let proc = fixture.path().join("proc");
        let mount = fixture.path().join("groups");
        fs::create_dir_all(proc.join("self")).unwrap();
        fs::create_dir_all(proc.join("7")).unwrap();
        fs::create_dir_all(mount.join("a/b")).unwrap();
        let mounts = format!(
            "22 1 0:21 / /proc rw - proc proc rw\n\
             30 1 0:26 / /sys/fs/cgroup/memory rw shared:9 - cgroup cgroup rw,memory\n\
             31 1 0:27 {root} {} rw,nosuid shared:10 - cgroup2 cgroup2 rw\n",
            mount.display()
        );
        fs::write(proc.join("self/mountinfo"), mounts).unwrap();
        fs::write(
            proc.join("7/cgroup"),
            format!("4:memory:/elsewhere\n0::{path}\n"),
        )
        .unwrap();
        let group = ControlGroup::find(&proc, "7");
        (fixture, group)
    }

    fn write(fixture: &tempfile::TempDir, file: &str, text: &str) {
        fs::write(fixture.path().join("groups").join(file), text).unwrap();
    }

    #[test]
    fn the_group_that_leaves_least_is_read() {
        let (fixture, group) = fixture("/", "/a/b");
        let group = group.unwrap();
        assert_eq!(group.directories.len(), 3);
        assert_eq!(group.read(), None, "no files, no limits");
        write(&fixture, "a/b/memory.max", "max\n");
        write(&fixture, "a/b/memory.high", "1000\n");
        write(&fixture, "a/b/memory.current", "100\n");
        let own = GroupMemory {
            limit_bytes: 1000,
            current_bytes: 100,
            inactive_file_bytes: 0,
        };
        assert_eq!(group.read(), Some(own));
        // The upper group's limit is higher, and others have used it up.
        write(&fixture, "a/memory.max", "5000\n");
        write(&fixture, "a/memory.high", "max\n");
        write(&fixture, "a/memory.current", "4800\n");
        write(
            &fixture,
            "a/memory.stat",
            "anon 4000\nfile 800\ninactive_file 300\n",
        );
        let upper = group.read().unwrap();
        assert_eq!((upper.limit_bytes, upper.inactive_file_bytes), (5000, 300));
        assert_eq!(upper.left_bytes(), 500);
        write(&fixture, "a/b/memory.max", "120\n");
        assert_eq!(group.read().unwrap().left_bytes(), 20);
    }

    #[test]
    fn of_a_mounted_part_only_the_rest_of_the_path_counts() {
        let (fixture, group) = fixture("/outer/box", "/outer/box/a");
        let own = fixture.path().join("groups/a");
        assert_eq!(group.unwrap().directories[0], own);
    }

    #[test]
    fn what_lies_outside_is_not_looked_for() {
        assert_eq!(fixture("/", "/../../other").1, None);
        assert_eq!(fixture("/outer", "/other").1, None);
        assert_eq!(ControlGroup::find(Path::new("/nowhere"), "self"), None);
    }

    #[test]
    fn blanks_in_mounts_are_read() {
        let line = r"31 1 0:27 / /my\040groups rw - cgroup2 none rw";
        assert_eq!(
            group_mount(line),
            Some(("/".to_owned(), "/my groups".into()))
        );
        assert_eq!(group_mount("31 1 0:27 / /groups rw - tmpfs none rw"), None);
        assert_eq!(group_mount(""), None);
    }

    #[test]
    fn the_nearest_file_is_watched() {
        let (fixture, group) = fixture("/", "/a/b");
        let group = group.unwrap();
        let machine = fixture.path().join("machine");
        let text_of = |path: &Path| {
            let mut text = Vec::new();
            File::open(path).unwrap().read_to_end(&mut text).unwrap();
            text
        };
        assert!(watch_first(Some(&group), None, &machine).is_err());
        fs::write(&machine, "").unwrap();
        assert!(watch_first(Some(&group), None, &machine).unwrap().is_some());
        assert_eq!(text_of(&machine), STALL);

        write(&fixture, "a/b/memory.pressure", "");
        let own = fixture.path().join("groups/a/b/memory.pressure");
        watch_first(Some(&group), None, &machine).unwrap();
        assert_eq!(text_of(&own), STALL);

        let named = fixture.path().join("named");
        fs::write(&named, "").unwrap();
        watch_first(Some(&group), Some(named.as_os_str()), &machine).unwrap();
        assert_eq!(text_of(&named), STALL);
    }

    #[test]
    fn the_null_device_means_off() {
        let off = watch_first(None, Some(OsStr::new("/dev/null")), Path::new("/nowhere"));
        assert!(off.unwrap().is_none());
        assert!(watch_first(None, Some(OsStr::new("/dev/zero")), Path::new("/nowhere")).is_err());
    }

    #[test]
    fn the_resident_set_is_in_pages() {
        assert_eq!(resident("100 25 3 4 0 6 0\n", 4096), Some(102_400));
        assert_eq!(resident("100 18446744073709551615 3", 4096), None);
        assert_eq!(resident("", 4096), None);
        assert!(resident_bytes(std::process::id()).is_some_and(|bytes| bytes > 4096));
    }
}
