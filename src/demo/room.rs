//! How much memory a run may take here.

use std::fs;

use crate::pressure::readings::ControlGroup;

/// Gives the bytes that are free for a new process: the machine's, or what the
/// control groups above us leave; `None` where neither says.
pub(super) fn free_bytes() -> Option<u64> {
    let machine = fs::read_to_string("/proc/meminfo")
        .ok()
        .and_then(|text| available(&text));
    let group = ControlGroup::own().and_then(|group| group.read());
    machine
        .into_iter()
        .chain(group.map(|group| group.left_bytes()))
        .min()
}

fn available(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib << 10)
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
}
