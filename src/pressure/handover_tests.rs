//! A recorder drives, dies in the middle, or comes late: whose words are in the ledger.

use std::fs::File;
use std::process::Command;
use std::time::{Duration, Instant};

use super::{MAX_NOTES, Shared};
use crate::ledger::cleanups::read_cleanups;
use crate::ledger::layout;
use crate::ledger::pages::FilePages;
use crate::ledger::pressure_words::{Part, PressureWords};
use crate::pressure::{Level, Trigger};

/// Nothing here takes longer, unless it hangs.
const PATIENCE: Duration = Duration::from_secs(60);

fn own_ledger() -> File {
    let directory = std::env::var_os("HEAPLEDGER_DIR").expect("the test's");
    let prefix = format!("{}-", std::process::id());
    let mine = std::fs::read_dir(directory)
        .expect("a readable directory")
        .map(|entry| entry.expect("a readable entry").path())
        .find(|path| {
            let name = path.file_name().unwrap_or_default();
            name.to_string_lossy().starts_with(&prefix)
        });
    File::open(mine.expect("a ledger")).expect("a readable ledger")
}

/// Until the driver's thread has come to it.
fn await_words(words: &PressureWords, holds: impl Fn(&layout::Pressure) -> bool) {
    let until = Instant::now() + PATIENCE;
    while !holds(&words.read().expect("whole")) {
        assert!(
            Instant::now() < until,
            "level {}",
            words.read().unwrap().level
        );
        std::thread::yield_now();
    }
}

fn hand_over() {
    let ledger = own_ledger();
    let words = PressureWords::open(&ledger).expect("a ledger");
    // Past it already, so the first thread that comes by crosses; nobody listens any more.
    assert!(words.arm(0).expect("whole"));
    words.set_level(3).expect("whole");
    words.request(Part::All, 3, 5).expect("whole");

    let settings = crate::ledger().pressure().follow_group(false);
    let pressure = settings.growth(f64::INFINITY).start().expect("a ledger");
    // Not once its thread has come to it: what the program does next the recorder leaves alone.
    assert_eq!(words.read().expect("whole").driver, std::process::id());
    let own = |words: &layout::Pressure| {
        (words.driver, words.level, words.armed_bytes) == (std::process::id(), 0, i64::MAX)
    };
    await_words(&words, own);
    assert_eq!(pressure.level(), Level::Calm);

    // One that has not seen yet that it is to leave the process alone.
    words.set_level(2).expect("whole");
    await_words(&words, own);
    words.arm(0).expect("whole");
    await_words(&words, own);

    assert!(crate::ledger().request_cleanup(0));
    assert!(pressure.wait_for_cycles(1, PATIENCE));
    let record = pressure.cleanups()[0].record.clone();
    assert_eq!((pressure.cycles(), record.trigger), (1, Trigger::Asked));
    let noted = read_cleanups(&FilePages(&ledger), 0);
    assert_eq!(noted.len(), 1);
    assert_eq!(
        (noted[0].number, noted[0].trigger),
        (1, layout::TRIGGER_ASKED)
    );
    assert_eq!(noted[0].before_bytes, record.before_bytes);

    drop(pressure);
    let after = words.read().expect("whole");
    assert_eq!(
        (after.driver, after.level, after.armed_bytes),
        (0, 0, i64::MAX)
    );
}

#[test]
fn what_there_is_to_say_is_said_once_and_not_without_end() {
    let shared = Shared::new(std::process::id(), vec!["first".to_owned()]);
    shared.say(["first".to_owned(), "second".to_owned()]);
    shared.say((0..1000).map(|number| format!("reclaimer {number}: slow")));
    let notes = &shared.told().notes;
    assert_eq!(notes[..3], ["first", "second", "reclaimer 0: slow"]);
    assert_eq!(notes.len(), MAX_NOTES);
}

/// In a process of its own, whose ledger is a file.
#[test]
fn a_driver_inside_takes_over_from_a_recorder_dead_or_late() {
    const INSIDE: &str = "HEAPLEDGER_TEST_HAND_OVER";
    if std::env::var_os(INSIDE).is_some() {
        return hand_over();
    }
    let directory = tempfile::tempdir().expect("a temporary directory");
    let test = "a_driver_inside_takes_over_from_a_recorder_dead_or_late";
    let output = Command::new(std::env::current_exe().expect("a test has a path"))
        .args(["--exact", &format!("pressure::handle::tests::{test}")])
        .env(INSIDE, "1")
        .env("HEAPLEDGER_DIR", directory.path())
        .env("LD_PRELOAD", env!("HEAPLEDGER_PRELOAD"))
        .output()
        .expect("the test starts");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
