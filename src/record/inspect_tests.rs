use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use super::*;

fn script(directory: &Path, name: &str, text: &str, mode: u32) -> PathBuf {
    let path = directory.join(name);
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    path
}

fn compile(directory: &Path, name: &str, source: &str, flags: &[&str]) -> PathBuf {
    let path = directory.join(name);
    let input = directory.join(format!("{name}.c"));
    fs::write(&input, source).unwrap();
    let status = Command::new("cc")
        .arg(&input)
        .arg("-o")
        .arg(&path)
        .args(flags)
        .status()
        .unwrap();
    assert!(status.success());
    path
}

#[test]
fn a_dynamic_program_is_tracked() {
    assert_eq!(inspect(OsStr::new("sh")).unwrap().untracked, None);
}

#[test]
fn a_program_that_is_not_there_is_not_found() {
    let refusal = inspect(OsStr::new("no-such-program-42")).unwrap_err();
    assert_eq!(
        refusal,
        Refusal::NotFound("no-such-program-42: not found in PATH".into())
    );
    let refusal = inspect(OsStr::new("/no/such/program")).unwrap_err();
    assert_eq!(
        refusal,
        Refusal::NotFound("/no/such/program: no such file".into())
    );
}

#[test]
fn a_program_that_may_not_run_is_refused() {
    let home = tempfile::tempdir().unwrap();
    let plain = script(home.path(), "plain", "hello", 0o644);
    assert!(
        matches!(inspect(plain.as_os_str()), Err(Refusal::NotExecutable(why)) if why.ends_with("not executable"))
    );
    assert!(
        matches!(inspect(home.path().as_os_str()), Err(Refusal::NotExecutable(why)) if why.ends_with("is a directory"))
    );
}

#[test]
fn scripts_lead_to_their_interpreter() {
    let home = tempfile::tempdir().unwrap();
    let main = "int main(void) { return 0; }";
    let program = compile(home.path(), "static", main, &["-static"]);
    let first = script(
        home.path(),
        "first",
        &format!("#! {} -x\n", program.display()),
        0o755,
    );
    let second = script(
        home.path(),
        "second",
        &format!("#!{}\n", first.display()),
        0o755,
    );
    assert_eq!(
        inspect(second.as_os_str()).unwrap().untracked,
        Some(Untracked::Static)
    );
    let lost = script(home.path(), "lost", "#!/no/interpreter\n", 0o755);
    assert!(
        matches!(inspect(lost.as_os_str()), Err(Refusal::NotFound(why)) if why.contains("/no/interpreter"))
    );
    let bare = script(home.path(), "bare", "exit 0\n", 0o755);
    assert_eq!(inspect(bare.as_os_str()).unwrap().untracked, None);
}

#[test]
fn a_bundled_allocator_is_said_to_bypass_us() {
    let home = tempfile::tempdir().unwrap();
    let source = "#include <stddef.h>\nvoid *malloc(size_t n) { (void)n; return 0; }\nint main(void) { return 0; }";
    let program = compile(home.path(), "own", source, &["-fno-builtin"]);
    assert_eq!(
        inspect(program.as_os_str()).unwrap().untracked,
        Some(Untracked::OwnAllocator)
    );
    let noted = format!(
        "{source}\n__attribute__((section(\".note.heapledger\"), used)) const int note[4] = {{0}};"
    );
    let program = compile(home.path(), "noted", &noted, &["-fno-builtin"]);
    assert_eq!(inspect(program.as_os_str()).unwrap().untracked, None);
}

#[test]
fn other_loaders_and_privileges_are_seen() {
    let home = tempfile::tempdir().unwrap();
    let main = "int main(void) { return 0; }";
    let musl = compile(
        home.path(),
        "musl",
        main,
        &["-Wl,--dynamic-linker=/lib/ld-musl-x86_64.so.1"],
    );
    assert_eq!(inspect_file(&musl).untracked, Some(Untracked::Musl));
    let plain = compile(home.path(), "plain", main, &[]);
    let mut bytes = fs::read(&plain).unwrap();
    bytes[18] = 0x28; // e_machine
    bytes[19] = 0;
    fs::write(&plain, &bytes).unwrap();
    assert_eq!(
        inspect_file(&plain).untracked,
        Some(Untracked::OtherMachine)
    );
    bytes[4] = 1; // 32 bits
    fs::write(&plain, &bytes).unwrap();
    assert_eq!(
        inspect_file(&plain).untracked,
        Some(Untracked::OtherMachine)
    );
}

#[test]
fn damaged_programs_never_panic() {
    let home = tempfile::tempdir().unwrap();
    let program = compile(home.path(), "plain", "int main(void) { return 0; }", &[]);
    let whole = fs::read(&program).unwrap();
    for length in (0..whole.len()).step_by(97) {
        fs::write(&program, &whole[..length]).unwrap();
        inspect_file(&program);
    }
}
