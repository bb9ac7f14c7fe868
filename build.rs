//! Builds the C core three times over: its layout as constants for the
//! compile-time check, a static archive for the crate, and the preload library
//! that the command carries inside itself. With the command comes the C half of
//! the IOContext workload, a shared library of its own.

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

/// The core's translation units; `hooks.c` joins them where malloc is defined.
const CORE: [&str; 32] = [
    "arena.c",
    "api.c",
    "book.c",
    "clock.c",
    "files.c",
    "fork.c",
    "full.c",
    "helper.c",
    "hosts.c",
    "init.c",
    "lifetimes.c",
    "live.c",
    "map.c",
    "misuse.c",
    "objects.c",
    "chunks.c",
    "owners.c",
    "pages.c",
    "pressure.c",
    "reclaim.c",
    "room.c",
    "sample.c",
    "slots.c",
    "stacks.c",
    "unwind.c",
    "unwind_cfi.c",
    "unwind_full.c",
    "unwind_memo.c",
    "unwind_modules.c",
    "unwind_stack.c",
    "unwind_tables.c",
    "watchers.c",
];

fn main() {
    println!("cargo::rustc-check-cfg=cfg(heapledger_core)");
    println!("cargo::rerun-if-changed=interpose");
    println!("cargo::rerun-if-changed=include");
    println!("cargo::rerun-if-changed=src/iocontext");
    println!("cargo::rerun-if-changed=build.rs");
    if !target_is_supported() {
        assert!(
            env::var_os("CARGO_FEATURE_INTERPOSE").is_none(),
            "feature `interpose` needs Linux with glibc on x86_64 or aarch64"
        );
        return;
    }
    println!("cargo::rustc-cfg=heapledger_core");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    write_layout_facts(&out);
    build_archive();
    if env::var_os("CARGO_FEATURE_CLI").is_some() {
        build_preload(&out);
        build_iocontext(&out);
    }
}

fn target(key: &str) -> String {
    env::var(format!("CARGO_CFG_TARGET_{key}")).unwrap_or_default()
}

fn target_is_supported() -> bool {
    target("OS") == "linux"
        && target("ENV") == "gnu"
        && matches!(target("ARCH").as_str(), "x86_64" | "aarch64")
}

fn target_is_static() -> bool {
    target("FEATURE")
        .split(',')
        .any(|feature| feature == "crt-static")
}

/// The flags every build of the core shares. No built-ins: gcc turns malloc and
/// memset inside a calloc into a call of that calloc. No link-time
/// optimisation, for the same reason.
fn core_build() -> cc::Build {
    let mut build = cc::Build::new();
    build
        .std("c11")
        .opt_level(2)
        .debug(true)
        .pic(true)
        .warnings(true)
        .extra_warnings(true)
        .cargo_metadata(false)
        .include("interpose")
        .include("include")
        .flag("-fvisibility=hidden")
        .flag("-ftls-model=initial-exec")
        .flag("-fno-builtin")
        .flag("-fno-lto")
        .flag("-fasynchronous-unwind-tables")
        .flag("-fno-stack-protector")
        .force_frame_pointer(false)
        .flag("-fomit-frame-pointer")
        .flag_if_supported("-fno-reorder-blocks-and-partition")
        // Where a function begins decides over a fiftieth of a malloc and free.
        .flag_if_supported("-falign-functions=64")
        .define("_GNU_SOURCE", None);
    match target("ARCH").as_str() {
        // The second keeps jumps off 32-byte boundaries, where some processors
        // decode them anew each time: a tenth of a malloc and free.
        "x86_64" => build
            .flag_if_supported("-fcf-protection=full")
            .flag_if_supported("-Wa,-mbranches-within-32B-boundaries"),
        _ => build.flag_if_supported("-mbranch-protection=standard"),
    };
    build
}

fn sources(extra: &[&str]) -> Vec<PathBuf> {
    CORE.iter()
        .chain(extra)
        .map(|file| Path::new("interpose").join(file))
        .collect()
}

fn build_archive() {
    let interpose = env::var_os("CARGO_FEATURE_INTERPOSE").is_some();
    let mut build = core_build();
    let mut extra = vec!["rust.c"];
    if interpose {
        assert!(
            !target_is_static(),
            "feature `interpose` replaces malloc through the dynamic linker; \
             this target is linked statically (crt-static)"
        );
        build.define("HL_INTERPOSE", None);
        extra.push("hooks.c");
    }
    if target_is_static() {
        build.define("HL_STATIC", None);
    }
    build
        .define("HL_CRATE", None)
        .files(sources(&extra))
        .compile("heapledger_core");
    let out = env::var("OUT_DIR").expect("cargo sets OUT_DIR");
    println!("cargo::rustc-link-search=native={out}");
    // Nothing in Rust names malloc, so only +whole-archive keeps the hooks.
    let whole = if interpose {
        "+whole-archive"
    } else {
        "-whole-archive"
    };
    println!("cargo::rustc-link-lib=static:{whole}=heapledger_core");
}

/// Links `libheapledger.so`. The version script is anonymous, since a named one
/// would switch interposition off.
fn build_preload(out: &Path) {
    let mut build = core_build();
    let objects_dir = out.join("preload");
    fs::create_dir_all(&objects_dir).expect("OUT_DIR is writable");
    build
        .define("HL_PRELOAD", None)
        .define("HL_INTERPOSE", None)
        .out_dir(&objects_dir);
    let objects = build
        .files(sources(&["rust.c", "hooks.c"]))
        .compile_intermediates();
    let library = out.join("libheapledger.so");
    let mut link = core_build().get_compiler().to_command();
    link.arg("-shared")
        .arg("-o")
        .arg(&library)
        .args(&objects)
        .args([
            "-Wl,-z,now",
            "-Wl,-z,relro",
            "-Wl,-z,nodelete",
            "-Wl,-z,noexecstack",
        ])
        .args([
            "-Wl,-Bsymbolic-functions",
            "-Wl,-soname,libheapledger.so",
            "-Wl,--build-id",
        ])
        .args([
            "-static-libgcc",
            "-Wl,--version-script=interpose/exports.map",
        ]);
    if target("ARCH") == "x86_64" {
        link.args(["-Wl,-z,ibt", "-Wl,-z,shstk"]);
    }
    // `run` reads the library at each start to see that it is the very one: six parts
    // of seven would be debug information, and a fifth of the time that a start takes.
    if env::var("PROFILE").is_ok_and(|profile| profile == "release") {
        link.arg("-Wl,--strip-debug");
    }
    // Before glibc 2.34 dlsym lived in libdl, which later ones still ship.
    link.args([
        "-Wl,--push-state,--no-as-needed",
        "-l:libdl.so.2",
        "-Wl,--pop-state",
    ]);
    let status = link.status().expect("the C compiler starts");
    assert!(
        status.success(),
        "cannot link {}: {status}",
        library.display()
    );
    println!("cargo::rustc-env=HEAPLEDGER_PRELOAD={}", library.display());
}

/// Links `libiocontext.so` as anybody would build a C library: optimised, with
/// debug information, its interface visible and nothing else.
fn build_iocontext(out: &Path) {
    let objects_dir = out.join("iocontext");
    fs::create_dir_all(&objects_dir).expect("OUT_DIR is writable");
    let mut build = cc::Build::new();
    build
        .std("c11")
        .opt_level(2)
        .debug(true)
        .pic(true)
        .warnings(true)
        .extra_warnings(true)
        .cargo_metadata(false)
        .flag("-fvisibility=hidden")
        .define("_GNU_SOURCE", None)
        .out_dir(&objects_dir);
    let objects = build
        .files(["library.c", "codec.c", "generator.c"].map(|file| format!("src/iocontext/{file}")))
        .compile_intermediates();
    let library = out.join("libiocontext.so");
    let mut link = build.get_compiler().to_command();
    link.args(["-shared", "-pthread", "-o"])
        .arg(&library)
        .args(&objects)
        .args([
            "-Wl,-soname,libiocontext.so",
            "-Wl,--build-id",
            "-Wl,-z,defs",
        ]);
    let status = link.status().expect("the C compiler starts");
    assert!(
        status.success(),
        "cannot link {}: {status}",
        library.display()
    );
    println!(
        "cargo::rustc-env=HEAPLEDGER_IOCONTEXT={}",
        library.display()
    );
}

/// Asks the C compiler for every offset in `ledger.h`.
fn write_layout_facts(out: &Path) {
    let assembly = out.join("layout_probe.s");
    let mut probe = core_build().get_compiler().to_command();
    probe
        .args(["-S", "interpose/layout_probe.c", "-o"])
        .arg(&assembly);
    let status = probe
        .status()
        .unwrap_or_else(|error| panic!("cannot start the C compiler: {error}"));
    assert!(
        status.success(),
        "cannot compile interpose/layout_probe.c: {status}"
    );
    let text = fs::read_to_string(&assembly).expect("the compiler wrote its output");

    let mut modules: Vec<(String, Vec<(String, i128)>)> = Vec::new();
    for line in text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("#-> "))
    {
        let (name, value) = line.split_once(' ').expect("a fact is a name and a value");
        let (module, field) = name.split_once('.').expect("a fact's name has two parts");
        let value: i128 = value
            .trim()
            .trim_start_matches(['$', '#'])
            .parse()
            .expect("a fact is a number");
        match modules.last_mut() {
            Some((last, fields)) if last == module => fields.push((field.to_owned(), value)),
            _ => modules.push((module.to_owned(), vec![(field.to_owned(), value)])),
        }
    }
    assert!(!modules.is_empty(), "no fact in {}", assembly.display());
    let mut rust = String::new();
    for (module, fields) in modules {
        let module = if module == "const" {
            "constant".to_owned()
        } else {
            module
        };
        writeln!(rust, "pub mod {module} {{").unwrap();
        for (field, value) in &fields {
            let value = if *value < 0 {
                value + (1i128 << 64)
            } else {
                *value
            };
            writeln!(
                rust,
                "    #[allow(non_upper_case_globals)]\n    pub const {field}: u64 = {value};"
            )
            .unwrap();
        }
        if module != "constant" {
            writeln!(
                rust,
                "    #[allow(non_upper_case_globals)]\n    pub const FIELDS: usize = {};",
                fields.len() - 1
            )
            .unwrap();
        }
        rust.push_str("}\n");
    }
    fs::write(out.join("layout_facts.rs"), rust).expect("OUT_DIR is writable");
}
