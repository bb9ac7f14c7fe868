//! What is done to a program under pressure, as the operator names it.

use std::fmt;
use std::str::FromStr;

use crate::analysis::{signal_name, signal_number};

/// One thing to do to a process that is to free memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// glibc gives back what is free.
    Trim,
    /// Python collects cycles.
    Python,
    /// The JVM collects.
    Jvm,
    /// The process is sent a signal, by number.
    Signal(i32),
    /// The shell runs a command, outside the process.
    Exec(String),
    /// What systemd's protocol tells a service, for programs that know it.
    Systemd,
}

impl Action {
    /// The action as it is written and shown; a command goes without its text.
    pub(crate) fn name(&self) -> String {
        match self {
            Action::Trim => "trim".to_owned(),
            Action::Python => "python".to_owned(),
            Action::Jvm => "jvm".to_owned(),
            Action::Signal(number) => {
                let name = signal_name(*number);
                format!("signal:{}", name.strip_prefix("SIG").unwrap_or(&name))
            }
            Action::Exec(_) => "exec".to_owned(),
            Action::Systemd => "systemd".to_owned(),
        }
    }

    /// Tells whether a thread of the target does it.
    pub(super) fn is_inside(&self) -> bool {
        matches!(self, Action::Trim | Action::Python | Action::Jvm)
    }

    fn is_like(&self, other: &Action) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other)
    }
}

/// One `--on-pressure`: actions with commas between them; `exec:` takes all that follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ActionList(pub Vec<Action>);

/// Why a text names no actions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ActionError {
    Unknown(String),
    NoSuchSignal(String),
    DeadlySignal(String),
    NoCommand,
    Twice(String),
}

impl fmt::Display for ActionError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ActionError::Unknown(text) if text.is_empty() => formatter.write_str(
                "an action is missing; use trim, signal:NAME, exec:CMD, python, jvm or systemd",
            ),
            ActionError::Unknown(text) => write!(
                formatter,
                "`{text}` is no action; use trim, signal:NAME, exec:CMD, python, jvm or systemd"
            ),
            ActionError::NoSuchSignal(name) => write!(
                formatter,
                "there is no signal `{name}`; name one as in signal:USR1 or signal:10"
            ),
            ActionError::DeadlySignal(name) => write!(
                formatter,
                "no program can handle {name}; name a signal that frees memory, as in signal:USR1"
            ),
            ActionError::NoCommand => formatter
                .write_str("exec: needs a command, as in exec:'./drop-caches $HEAPLEDGER_PID'"),
            ActionError::Twice(name) => {
                write!(
                    formatter,
                    "{name} is one too many; each kind of action stands once"
                )
            }
        }
    }
}

impl std::error::Error for ActionError {}

impl FromStr for ActionList {
    type Err = ActionError;

    fn from_str(text: &str) -> Result<ActionList, ActionError> {
        let mut actions = Vec::new();
        let mut rest = Some(text);
        while let Some(text) = rest {
            let (action, after) = first(text)?;
            actions.push(action);
            rest = after;
        }
        Ok(ActionList(actions))
    }
}

/// Takes the first action off a list.
fn first(text: &str) -> Result<(Action, Option<&str>), ActionError> {
    if let Some(command) = text.trim_start().strip_prefix("exec:") {
        return match command.trim() {
            "" => Err(ActionError::NoCommand),
            command => Ok((Action::Exec(command.to_owned()), None)),
        };
    }
    let (word, rest) = match text.split_once(',') {
        Some((word, rest)) => (word, Some(rest)),
        None => (text, None),
    };
    Ok((named(word.trim())?, rest))
}

fn named(word: &str) -> Result<Action, ActionError> {
    if let Some(name) = word.strip_prefix("signal:") {
        let number =
            signal_number(name).ok_or_else(|| ActionError::NoSuchSignal(name.to_owned()))?;
        return match number {
            libc::SIGKILL | libc::SIGSTOP => Err(ActionError::DeadlySignal(signal_name(number))),
            number => Ok(Action::Signal(number)),
        };
    }
    match word {
        "trim" => Ok(Action::Trim),
        "python" => Ok(Action::Python),
        "jvm" => Ok(Action::Jvm),
        "systemd" => Ok(Action::Systemd),
        _ => Err(ActionError::Unknown(word.to_owned())),
    }
}

/// Puts several lists together; each kind of action may stand there once.
pub(crate) fn merge(lists: Vec<ActionList>) -> Result<Vec<Action>, ActionError> {
    let mut all: Vec<Action> = Vec::new();
    for action in lists.into_iter().flat_map(|list| list.0) {
        if all.iter().any(|known| known.is_like(&action)) {
            return Err(ActionError::Twice(action.name()));
        }
        all.push(action);
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Vec<Action>, ActionError> {
        text.parse::<ActionList>().map(|list| list.0)
    }

    #[test]
    fn actions_are_separated_by_commas() {
        let all = parse("trim, python,jvm,systemd,signal:SIGUSR1").unwrap();
        let names: Vec<String> = all.iter().map(Action::name).collect();
        assert_eq!(names, ["trim", "python", "jvm", "systemd", "signal:USR1"]);
        assert_eq!(parse("signal:rtmin+1"), Ok(vec![Action::Signal(35)]));
    }

    #[test]
    fn a_command_keeps_its_commas() {
        let command = Action::Exec("echo a,b; trim".to_owned());
        assert_eq!(
            parse("trim,exec:echo a,b; trim"),
            Ok(vec![Action::Trim, command])
        );
    }

    #[test]
    fn mistakes_are_named() {
        let unknown = |text: &str| Err(ActionError::Unknown(text.to_owned()));
        assert_eq!(parse(""), unknown(""));
        assert_eq!(parse("trim,"), unknown(""));
        assert_eq!(parse("trim;python"), unknown("trim;python"));
        assert_eq!(parse("signal"), unknown("signal"));
        let no_signal = ActionError::NoSuchSignal("NOPE".to_owned());
        assert_eq!(parse("signal:NOPE"), Err(no_signal));
        let deadly = ActionError::DeadlySignal("SIGKILL".to_owned());
        assert_eq!(parse("signal:9"), Err(deadly));
        assert_eq!(parse("exec: "), Err(ActionError::NoCommand));
    }

    #[test]
    fn each_kind_stands_once() {
        let list = |text: &str| text.parse::<ActionList>().unwrap();
        assert_eq!(
            merge(vec![list("trim,signal:USR1"), list("signal:USR2")]),
            Err(ActionError::Twice("signal:USR2".to_owned()))
        );
        assert_eq!(
            merge(vec![list("trim"), list("jvm")]),
            Ok(vec![Action::Trim, Action::Jvm])
        );
    }
}
