//! Holds the house to its plan: ARCHITECTURE.md says which file is what, who
//! may use whom, and which files may be long. Each test prints what is not so.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// No file of src/ or interpose/ is longer, unless the plan gives a reason.
const MAX_LINES: usize = 500;

/// What lies in tests/programs without being a program that `run` is held to.
const NOT_PROGRAMS: &[(&str, &str)] = &[
    ("combinations_library.c", "library of combinations.rs"),
    ("deepbind_plugin.c", "plugin of deepbind.c"),
    ("initfirst_library.c", "library of initfirst.c"),
    (
        "iocontext_damage.c",
        "run with sanitizers, not under the preload",
    ),
    ("killed_library.c", "library of killed.c"),
    (
        "late.c",
        "run under an emulator, over a core of its library's",
    ),
    ("late_library.c", "library of late.c"),
    ("mixed_stacks.c", "part of mixed_stacks.rs"),
    ("origin_plugin_library.c", "plugin of origin_plugin.c"),
    (
        "pressure_threads.c",
        "run with the thread sanitizer, not under the preload",
    ),
    ("pressure_unload_library.c", "library of pressure_unload.c"),
    (
        "races.c",
        "run with the thread sanitizer, not under the preload",
    ),
    (
        "races_caught.c",
        "run with the thread sanitizer, not under the preload",
    ),
    (
        "races_core.c",
        "what stands below the core under the thread sanitizer",
    ),
    (
        "sampled.c",
        "run under the preload by the tests of ledger::samples",
    ),
    ("second_preload.c", "a second interposer"),
    ("signal_safe_allocator.c", "an allocator to run over"),
    (
        "slow_loading_library.c",
        "an auditor that holds the loader up",
    ),
    ("small_child.c", "child of untracked_children.c"),
    ("startup_ifunc_library.c", "library of startup_ifunc.c"),
    (
        "steered.c",
        "run in many ways by tests/run_pressure.rs, with a ledger each",
    ),
    (
        "unwind_checker_library.c",
        "holds the unwinder to libgcc's, by itself",
    ),
    (
        "unwind_exceptions.cpp",
        "run under unwind_checker_library.c",
    ),
    ("unwind_joining_plugin.c", "plugin of unwind_shapes.c"),
    ("unwind_plugin.c", "plugin of unwind_shapes.c"),
    ("unwind_shapes.c", "run under unwind_checker_library.c"),
    ("unwind_strays.c", "run under unwind_checker_library.c"),
];

// ---- the plan ----

fn package() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn plan() -> String {
    read(&package().join("ARCHITECTURE.md"))
}

/// What a line has between backticks.
fn quoted(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

/// Reads the table behind `<!-- house: NAME -->`: the first cell's name to the names in the second cell.
fn table<'p>(plan: &'p str, name: &str) -> BTreeMap<&'p str, BTreeSet<&'p str>> {
    let mark = format!("<!-- house: {name} -->");
    let (_, rest) = plan
        .split_once(&mark)
        .unwrap_or_else(|| panic!("ARCHITECTURE.md has no {mark}"));
    let rows = rest
        .lines()
        .skip_while(|line| !line.starts_with('|'))
        .take_while(|line| line.starts_with('|'))
        .skip(2);
    let rows = rows.map(|line| {
        let mut cells = line.trim_matches('|').split('|');
        let names = |cell: Option<&'p str>| quoted(cell.unwrap_or_default());
        let first = names(cells.next());
        assert_eq!(
            first.len(),
            1,
            "table {name}: `{line}` begins with one name"
        );
        (first[0], names(cells.next()).into_iter().collect())
    });
    let table: BTreeMap<_, _> = rows.collect();
    assert!(!table.is_empty(), "table {name} is empty");
    table
}

/// All files below a directory with one of these suffixes, by their path in the package.
fn files(directory: &str, suffixes: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    let mut queue = vec![package().join(directory)];
    while let Some(path) = queue.pop() {
        if path.is_dir() && path.ends_with("target") {
            continue; // what a package inside this one built
        } else if path.is_dir() {
            let entries = fs::read_dir(&path).expect("a directory of the package");
            queue.extend(entries.map(|entry| entry.expect("a readable entry").path()));
        } else if suffixes.iter().any(|suffix| {
            path.extension()
                .is_some_and(|extension| extension == *suffix)
        }) {
            let relative = path.strip_prefix(package()).expect("below the package");
            found.push(relative.to_str().expect("our names are text").to_owned());
        }
    }
    found.sort();
    found
}

fn assert_none(offenders: &[String], rule: &str) {
    assert!(
        offenders.is_empty(),
        "{rule}\n  {}\n",
        offenders.join("\n  ")
    );
}

// ---- Rust: who uses whom ----

/// Words and punctuation of a Rust or C source, without comments and literals.
fn tokens(source: &str) -> Vec<String> {
    let bytes = source.as_bytes();
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let (mut tokens, mut at) = (Vec::new(), 0);
    while at < bytes.len() {
        let rest = &source[at..];
        if rest.starts_with("//") {
            at += rest.find('\n').unwrap_or(rest.len());
        } else if rest.starts_with("/*") {
            at += rest.find("*/").map_or(rest.len(), |end| end + 2);
        } else if let Some(end) = end_of_literal(rest) {
            at += end;
        } else if rest.starts_with("::") {
            tokens.push("::".to_owned());
            at += 2;
        } else if is_word(bytes[at]) {
            let end = rest.bytes().position(|byte| !is_word(byte));
            let word = &rest[..end.unwrap_or(rest.len())];
            tokens.push(word.to_owned());
            at += word.len();
        } else {
            let letter = rest.chars().next().expect("not at the end");
            if !letter.is_whitespace() {
                tokens.push(letter.to_string());
            }
            at += letter.len_utf8();
        }
    }
    tokens
}

/// Length of the string, raw string or character that the text begins with.
fn end_of_literal(text: &str) -> Option<usize> {
    if let Some(hashes) = text.strip_prefix('r').and_then(|rest| {
        let quotes = rest.trim_start_matches('#');
        quotes.starts_with('"').then(|| rest.len() - quotes.len())
    }) {
        let close = format!("\"{}", "#".repeat(hashes));
        let start = 2 + hashes;
        return Some(
            text[start..]
                .find(&close)
                .map_or(text.len(), |end| start + end + close.len()),
        );
    }
    let quote = text
        .chars()
        .next()
        .filter(|&first| first == '"' || first == '\'')?;
    if quote == '\'' && !is_character(text) {
        return None; // a lifetime
    }
    let mut escaped = false;
    for (at, letter) in text.char_indices().skip(1) {
        match letter {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if letter == quote => return Some(at + 1),
            _ => {}
        }
    }
    Some(text.len())
}

fn is_character(text: &str) -> bool {
    let mut letters = text.chars().skip(1);
    letters.next() == Some('\\') || letters.next() == Some('\'')
}

/// The module that a file of src/ is: `src/record/mod.rs` is `record`.
fn module_of(file: &str) -> Vec<String> {
    let inside = file.trim_start_matches("src/").trim_end_matches(".rs");
    let mut parts: Vec<String> = inside.split('/').map(str::to_owned).collect();
    let last = parts.last().expect("a file has a name").clone();
    if matches!(last.as_str(), "mod" | "lib" | "main") {
        parts.pop();
    } else if let Some(tested) = last.strip_suffix("_tests") {
        // Brought in with #[path] by the module that it tests.
        parts.pop();
        parts.extend([tested.to_owned(), "tests".to_owned()]);
    }
    parts
}

struct Walk<'t> {
    tokens: &'t [String],
    modules: &'t BTreeSet<Vec<String>>,
    found: Vec<Vec<String>>,
}

impl Walk<'_> {
    fn is(&self, at: usize, token: &str) -> bool {
        self.tokens.get(at).is_some_and(|found| found == token)
    }

    /// Follows every path that leads somewhere in the crate, from the module that a
    /// file is. Tests may use whom they like.
    fn file(&mut self, module: &[String]) {
        let mut here = module.to_vec();
        let mut depth = 0usize;
        let mut inline: Vec<usize> = Vec::new();
        let mut at = 0;
        while at < self.tokens.len() {
            let begins_path = at == 0 || !self.is(at - 1, "::");
            match self.tokens[at].as_str() {
                "{" => depth += 1,
                "}" => {
                    depth = depth.saturating_sub(1);
                    if inline.last() == Some(&depth) {
                        inline.pop();
                        here.pop();
                    }
                }
                "mod" if self.is(at + 2, "{") => {
                    here.push(self.tokens[at + 1].clone());
                    inline.push(depth);
                }
                "use" => {
                    at = self.path(at + 1, &here, None);
                    continue;
                }
                "crate" | "super" | "self" if begins_path && self.is(at + 1, "::") => {
                    at = self.path(at, &here, None);
                    continue;
                }
                _ => {}
            }
            at += 1;
        }
    }

    /// Follows one path, or a group of them, and gives the place behind it.
    fn path(&mut self, mut at: usize, here: &[String], before: Option<Vec<String>>) -> usize {
        let mut path = before;
        loop {
            let word = self.tokens[at].as_str();
            match word {
                "{" => {
                    at += 1;
                    while !self.is(at, "}") {
                        at = self.path(at, here, path.clone());
                        if self.is(at, "as") {
                            at += 2;
                        }
                        if self.is(at, ",") {
                            at += 1;
                        }
                    }
                    return at + 1;
                }
                "::" => {
                    at += 1;
                    continue;
                }
                "crate" => path = Some(Vec::new()),
                "self" => path = Some(path.unwrap_or_else(|| here.to_vec())),
                "super" => {
                    let mut from = path.unwrap_or_else(|| here.to_vec());
                    from.pop();
                    path = Some(from);
                }
                // The command's own crate, seen from main.rs.
                "heapledger" if path.is_none() && here.is_empty() => path = Some(Vec::new()),
                word => {
                    let mut next = match &path {
                        Some(path) => path.clone(),
                        None => here.to_vec(),
                    };
                    next.push(word.to_owned());
                    // A path without a beginning leads to a module beside it, or to another crate.
                    if path.is_some() || self.modules.contains(&next) {
                        path = Some(next);
                    } else {
                        path = Some(vec!["(another crate)".to_owned()]);
                    }
                }
            }
            at += 1;
            if !self.is(at, "::") {
                if !here.iter().any(|part| part == "tests") {
                    self.found.extend(path);
                }
                return at;
            }
        }
    }
}

/// The row of the table that a path falls under: the longest that it begins with.
fn row_of<'p>(path: &[String], rows: &BTreeMap<&'p str, BTreeSet<&'p str>>) -> Option<&'p str> {
    (1..=path.len())
        .rev()
        .find_map(|length| rows.get_key_value(path[..length].join("::").as_str()))
        .map(|(row, _)| *row)
}

/// Names that lib.rs hands on: `crate::Error` is `error`'s.
fn handed_on() -> BTreeMap<String, Vec<String>> {
    let lib = tokens(&read(&package().join("src/lib.rs")));
    let mut names = BTreeMap::new();
    for (at, _) in lib.iter().enumerate().filter(|(_, token)| *token == "use") {
        let statement: Vec<&String> = lib[at + 1..]
            .iter()
            .take_while(|token| *token != ";")
            .collect();
        let Some(module) = statement.first() else {
            continue;
        };
        for name in &statement[1..] {
            names.insert((*name).clone(), vec![(*module).clone(), (*name).clone()]);
        }
    }
    names
}

fn modules_used(
    file: &str,
    modules: &BTreeSet<Vec<String>>,
    names: &BTreeMap<String, Vec<String>>,
) -> Vec<Vec<String>> {
    let tokens = tokens(&read(&package().join(file)));
    let mut walk = Walk {
        tokens: &tokens,
        modules,
        found: Vec::new(),
    };
    walk.file(&module_of(file));
    let resolve = |path: Vec<String>| match path.first().and_then(|first| names.get(first)) {
        Some(target) if !modules.contains(&path[..1]) => target.clone(),
        _ => path,
    };
    walk.found.into_iter().map(resolve).collect()
}

#[test]
fn modules_use_whom_they_may() {
    let plan = plan();
    let rows = table(&plan, "modules");
    let sources = files("src", &["rs"]);
    let modules: BTreeSet<Vec<String>> = sources.iter().map(|file| module_of(file)).collect();
    let names = handed_on();
    let mut offenders = Vec::new();
    for (row, targets) in &rows {
        for name in std::iter::once(row).chain(targets) {
            let path: Vec<String> = name.split("::").map(str::to_owned).collect();
            if !modules.contains(&path) {
                offenders.push(format!(
                    "the table names `{name}`, and there is no such module"
                ));
            }
        }
    }
    for file in &sources {
        let module = module_of(file);
        if module.is_empty() {
            continue; // lib.rs and main.rs only name their modules
        }
        let Some(own) = row_of(&module, &rows) else {
            offenders.push(format!(
                "{file}: module `{}` has no row in the table",
                module.join("::")
            ));
            continue;
        };
        for target in modules_used(file, &modules, &names) {
            let Some(used) = row_of(&target, &rows) else {
                continue;
            };
            if used != own && !rows[own].contains(used) {
                offenders.push(format!(
                    "{file}: `{own}` uses `{used}` ({})",
                    target.join("::")
                ));
            }
        }
    }
    offenders.dedup();
    assert_none(
        &offenders,
        "ARCHITECTURE.md, table `modules`: who may use whom",
    );
}

// ---- C: who includes and calls whom ----

fn c_files() -> Vec<String> {
    files("interpose", &["c", "h"])
}

fn name_of(file: &str) -> &str {
    file.rsplit('/').next().unwrap_or(file)
}

#[test]
fn the_core_includes_what_it_may() {
    let plan = plan();
    let rows = table(&plan, "includes");
    let mut offenders = Vec::new();
    for file in c_files() {
        let Some(allowed) = rows.get(name_of(&file)) else {
            offenders.push(format!("{file} has no row in the table"));
            continue;
        };
        for line in read(&package().join(&file)).lines() {
            let Some(included) = line.trim_start().strip_prefix("#include \"") else {
                continue;
            };
            let included = included.trim_end_matches('"');
            if !allowed.contains(included) {
                offenders.push(format!("{file} includes {included}"));
            }
        }
    }
    assert_none(
        &offenders,
        "ARCHITECTURE.md, table `includes`: headers of the core",
    );
}

/// The functions of the core that a file defines for others.
fn defined_in(source: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for (at, line) in source
        .match_indices('\n')
        .map(|(at, _)| (at + 1, &source[at + 1..]))
    {
        let first = line.lines().next().unwrap_or_default();
        let is_header = first.starts_with(|letter: char| letter.is_ascii_alphabetic());
        if !is_header || first.starts_with("static") || first.starts_with("HL_INLINE") {
            continue;
        }
        let Some(name) = first.split('(').next().and_then(|head| {
            let word = head.rsplit([' ', '*']).next().unwrap_or_default();
            word.starts_with("hl_").then_some(word)
        }) else {
            continue;
        };
        let rest = &source[at..];
        let body = rest.find('{').unwrap_or(rest.len());
        if !rest[..body].contains(';') && rest[..body].contains(')') {
            names.insert(name.to_owned());
        }
    }
    names
}

/// Every file of the core may call those in front of it in the list, and the exceptions.
#[test]
fn the_core_calls_downwards() {
    let plan = plan();
    let order = plan
        .split_once("<!-- house: core order -->")
        .map(|(_, rest)| quoted(rest.trim_start().lines().next().unwrap_or_default()))
        .expect("ARCHITECTURE.md gives the order of the core's files");
    let exceptions = table(&plan, "upward calls");
    let place = |file: &str| order.iter().position(|name| *name == file);
    let sources: BTreeMap<String, String> = c_files()
        .iter()
        .filter(|file| file.ends_with(".c") && name_of(file) != "layout_probe.c")
        .map(|file| (name_of(file).to_owned(), read(&package().join(file))))
        .collect();
    let mut offenders = Vec::new();
    let mut owners: BTreeMap<String, &str> = BTreeMap::new();
    for (file, source) in &sources {
        if place(file).is_none() {
            offenders.push(format!("interpose/{file} has no place in the order"));
        }
        owners.extend(
            defined_in(source)
                .into_iter()
                .map(|name| (name, file.as_str())),
        );
    }
    assert!(
        owners.len() > 40,
        "the functions of the core are found: {owners:?}"
    );
    let mut used = BTreeSet::new();
    for (file, source) in &sources {
        for token in tokens(source).into_iter().collect::<BTreeSet<_>>() {
            let Some(&owner) = owners.get(&token) else {
                continue;
            };
            if owner == file || place(owner) < place(file) {
                continue;
            }
            used.insert(token.clone());
            if !exceptions
                .get(token.as_str())
                .is_some_and(|files| files.contains(file.as_str()))
            {
                offenders.push(format!(
                    "interpose/{file} calls {token} of {owner}, which comes later"
                ));
            }
        }
    }
    let unused = exceptions.keys().filter(|name| !used.contains(**name));
    offenders.extend(unused.map(|name| format!("the exception for {name} is not needed")));
    assert_none(&offenders, "ARCHITECTURE.md, order of the core's files");
}

// ---- sizes and lists ----

#[test]
fn long_files_have_a_reason() {
    let plan = plan();
    let reasons = table(&plan, "long files");
    let mut offenders = Vec::new();
    let mut all = files("src", &["rs"]);
    all.extend(c_files());
    for file in &all {
        let lines = read(&package().join(file)).lines().count();
        if lines > MAX_LINES && !reasons.contains_key(file.as_str()) {
            offenders.push(format!("{file}: {lines} lines"));
        }
    }
    let gone = reasons
        .keys()
        .filter(|file| !all.iter().any(|found| found == *file));
    offenders.extend(gone.map(|file| format!("the table names {file}, and there is no such file")));
    assert_none(
        &offenders,
        &format!("ARCHITECTURE.md, table `long files`: more than {MAX_LINES} lines"),
    );
}

#[test]
fn every_file_is_on_the_plan() {
    let plan = plan();
    let listed: BTreeSet<&str> = quoted(&plan).into_iter().collect();
    let mut all = files("src", &["rs"]);
    all.extend(files("interpose", &["c", "h", "map"]));
    all.extend(files("include", &["h"]));
    all.extend(
        files("benches", &["rs", "c", "h"])
            .into_iter()
            .filter(|file| !file.starts_with("benches/peers/src/bin/")),
    );
    all.extend(files("examples", &["rs", "c", "h", "go", "py", "java"]));
    all.extend(files("bindings", &["go", "c", "h"]));
    all.extend(
        files("tests", &["rs"])
            .into_iter()
            .filter(|file| !file.starts_with("tests/programs/")),
    );
    let missing: Vec<String> = all
        .into_iter()
        .filter(|file| !listed.contains(file.as_str()))
        .collect();
    assert_none(
        &missing,
        "ARCHITECTURE.md says of every file what it is; missing:",
    );
}

/// The first comment of a C source.
fn first_comment(source: &str) -> &str {
    source
        .split_once("/*")
        .and_then(|(_, rest)| rest.split_once("*/"))
        .map_or("", |(comment, _)| comment)
}

#[test]
fn every_program_states_its_ledger() {
    let mut offenders = Vec::new();
    let programs: Vec<PathBuf> = files("tests/programs", &["c", "cpp"])
        .iter()
        .map(|file| package().join(file))
        .collect();
    let named = |path: &Path| {
        NOT_PROGRAMS
            .iter()
            .find(|(name, _)| path.file_name().is_some_and(|file| file == *name))
    };
    for path in &programs {
        let states = first_comment(&read(path)).contains("expect:");
        let shown = path.strip_prefix(package()).unwrap_or(path).display();
        match named(path) {
            None if !states => {
                offenders.push(format!("{shown}: its first comment has no `expect:`"))
            }
            Some((_, why)) if states => {
                offenders.push(format!("{shown} is listed as {why}, and expects"))
            }
            _ => {}
        }
    }
    for (name, _) in NOT_PROGRAMS {
        if !programs.iter().any(|path| path.ends_with(name)) {
            offenders.push(format!("{name} is listed, and there is no such file"));
        }
    }
    assert_none(
        &offenders,
        "tests/programs: a program states its ledger in its first comment",
    );
}

// ---- the test tested ----

#[test]
fn paths_are_followed() {
    let source = r##"
        // use crate::comment;
        use super::{beside, deeper::{self, Thing}};
        use child::Item;
        use std::fmt;
        pub(crate) fn work<'a>(text: &'a str) -> crate::report::Style { "crate::string"; r#"crate::raw"#; '"'; }
        mod inner { use super::*; use super::super::up; fn x() { crate::ledger::read(); } }
        mod tests { use super::*; fn x() { crate::cli::main(); } }
        fn after() { self::child::go() }
    "##;
    let path = |text: &str| text.split("::").map(str::to_owned).collect::<Vec<_>>();
    let modules: BTreeSet<Vec<String>> =
        ["record::watch", "record::watch::child", "record::beside"]
            .map(path)
            .into();
    let tokens = tokens(source);
    let mut walk = Walk {
        tokens: &tokens,
        modules: &modules,
        found: Vec::new(),
    };
    walk.file(&path("record::watch"));
    let found: Vec<String> = walk.found.iter().map(|path| path.join("::")).collect();
    let expected = [
        "record::beside",
        "record::deeper",
        "record::deeper::Thing",
        "record::watch::child::Item",
        "(another crate)::fmt",
        "report::Style",
        "record::watch::*",
        "record::up",
        "ledger::read",
        "record::watch::child::go",
    ];
    assert_eq!(found, expected);
}
