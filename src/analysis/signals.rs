//! Names of signals.

/// Linux's signals from 1 on, in the numbering of x86_64 and aarch64.
const NAMES: [&str; 31] = [
    "SIGHUP",
    "SIGINT",
    "SIGQUIT",
    "SIGILL",
    "SIGTRAP",
    "SIGABRT",
    "SIGBUS",
    "SIGFPE",
    "SIGKILL",
    "SIGUSR1",
    "SIGSEGV",
    "SIGUSR2",
    "SIGPIPE",
    "SIGALRM",
    "SIGTERM",
    "SIGSTKFLT",
    "SIGCHLD",
    "SIGCONT",
    "SIGSTOP",
    "SIGTSTP",
    "SIGTTIN",
    "SIGTTOU",
    "SIGURG",
    "SIGXCPU",
    "SIGXFSZ",
    "SIGVTALRM",
    "SIGPROF",
    "SIGWINCH",
    "SIGIO",
    "SIGPWR",
    "SIGSYS",
];
const FIRST_REAL_TIME: i32 = 34;
const LAST_REAL_TIME: i32 = 64;

/// Gives a signal's name: `SIGKILL`, `SIGRTMIN+2`, or `signal 99` for a number that has none.
pub fn signal_name(number: i32) -> String {
    let name = usize::try_from(number)
        .ok()
        .and_then(|number| NAMES.get(number.wrapping_sub(1)));
    match (name, number) {
        (Some(name), _) => (*name).to_owned(),
        (None, FIRST_REAL_TIME) => "SIGRTMIN".to_owned(),
        (None, FIRST_REAL_TIME..=LAST_REAL_TIME) => {
            format!("SIGRTMIN+{}", number - FIRST_REAL_TIME)
        }
        _ => format!("signal {number}"),
    }
}

/// Gives the number of a signal that is named as people do it: `USR1`, `SIGUSR1`, `RTMIN+2`, `10`.
pub fn signal_number(name: &str) -> Option<i32> {
    let upper = name.to_ascii_uppercase();
    let full = format!("SIG{}", upper.strip_prefix("SIG").unwrap_or(&upper));
    let known = || (1..=LAST_REAL_TIME).filter(|&number| !signal_name(number).contains(' '));
    let number = upper.parse::<i32>().ok();
    known().find(|&known| number == Some(known) || signal_name(known) == full)
}

#[cfg(test)]
mod tests {
    use super::{signal_name, signal_number};

    #[test]
    fn signals_are_found_by_name_and_number() {
        let expected = [
            ("USR1", Some(10)),
            ("SIGUSR1", Some(10)),
            ("usr2", Some(12)),
            ("10", Some(10)),
            ("RTMIN", Some(34)),
            ("SIGRTMIN+2", Some(36)),
            ("64", Some(64)),
            ("32", None), // glibc's own
            ("0", None),
            ("65", None),
            ("-9", None),
            ("", None),
            ("SIG", None),
            ("NOSUCH", None),
        ];
        for (name, number) in expected {
            assert_eq!(signal_number(name), number, "{name}");
        }
    }

    #[test]
    fn signals_have_the_names_that_people_know() {
        let expected = [
            (9, "SIGKILL"),
            (11, "SIGSEGV"),
            (15, "SIGTERM"),
            (31, "SIGSYS"),
            (36, "SIGRTMIN+2"),
        ];
        for (number, name) in expected {
            assert_eq!(signal_name(number), name);
        }
        assert_eq!(signal_name(0), "signal 0");
        assert_eq!(signal_name(i32::MIN), "signal -2147483648");
    }
}
