//! Codes of the C library.

use std::ffi::{CStr, c_int};
use std::fmt;

use super::ffi;

/// A negative code of the C library, or of a callback that it handed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Code(c_int);

/// Declares a constant a code of `library.h`.
macro_rules! codes {
    ($($name:ident = $value:literal, $text:literal;)*) => {
        impl Code {
            $(
                #[doc = $text]
                pub const $name: Code = Code($value);
            )*
        }
    };
}

codes! {
    MEMORY = -1, "The allocator refused.";
    END = -2, "There is no further packet.";
    FORMAT = -3, "Not a container of this kind.";
    CORRUPT = -4, "A checksum or a structure is wrong.";
    TRUNCATED = -5, "The data ends before it should.";
    LIMIT = -6, "A size is past what the library takes.";
    CALLBACK = -7, "A callback gave what it must not: too many bytes, another position.";
    ARGUMENT = -8, "The caller gave what it must not.";
    SEEK = -9, "Beyond the end, or the source cannot seek.";
    IO = -20, "The source failed.";
    HANDLE = -21, "The source behind the key is gone.";
    PANIC = -22, "The source panicked.";
}

impl Code {
    pub(super) fn new(value: c_int) -> Code {
        Code(value)
    }

    /// Gives the number that C knows it by.
    pub fn value(self) -> i32 {
        self.0
    }
}

impl fmt::Display for Code {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Ok(library) = ffi::library() else {
            return write!(formatter, "code {}", self.0);
        };
        // SAFETY: the library gives a constant C string for every code (library.h).
        let text = unsafe { CStr::from_ptr((library.ic_error_text)(self.0)) };
        write!(formatter, "{} (code {})", text.to_string_lossy(), self.0)
    }
}
