//! Names as the source has them.

/// Gives the name that the source has: Rust's without its hash, C++'s with its
/// parameters, C's as it is.
pub(crate) fn demangled(name: &str) -> String {
    if let Ok(rust) = rustc_demangle::try_demangle(name) {
        return format!("{rust:#}");
    }
    let cpp = name
        .starts_with("_Z")
        .then(|| cpp_demangle::Symbol::new(name).ok());
    let cpp = cpp.flatten().and_then(|symbol| symbol.demangle().ok());
    cpp.unwrap_or_else(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::demangled;

    #[test]
    fn names_read_as_in_the_source() {
        assert_eq!(demangled("t"), "t");
        assert_eq!(demangled("_start"), "_start");
        assert_eq!(
            demangled("_Z6decodePKcm"),
            "decode(char const*, unsigned long)"
        );
        assert_eq!(
            demangled("_ZN4core3fmt5write17h0123456789abcdefE"),
            "core::fmt::write"
        );
    }
}
