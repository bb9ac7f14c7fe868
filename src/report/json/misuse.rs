//! Misuse of the allocator, with its stacks.

use serde::{Serialize, Serializer};

use crate::analysis::{Catalog, ProcessReport, calls, seconds};
use crate::recording::model::{Misuse, MisuseStack, Process};

#[derive(Serialize)]
pub(super) struct MisuseJson<'a> {
    kind: &'static str,
    address: String,
    call: &'static str,
    bytes: Option<u64>,
    inside_bytes: Option<u64>,
    said_bytes: Option<u64>,
    certain: bool,
    count: u64,
    t_s: f64,
    tid: Option<u32>,
    thread: Option<&'a str>,
    stacks: StacksJson<'a>,
}

/// What nobody saw has no key.
#[derive(Serialize)]
struct StacksJson<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    allocated: Option<StackJson<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    first_freed: Option<StackJson<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    freed: Option<StackJson<'a>>,
}

/// A list of frames, made as it is written: most are the same few.
struct StackJson<'a> {
    catalog: &'a Catalog<'a>,
    stack: &'a MisuseStack,
}

#[derive(Serialize)]
struct FrameJson<'a> {
    symbol: Option<&'a str>,
    library: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    offset: Option<u64>,
    file: Option<&'a str>,
    line: Option<u32>,
    inlined: bool,
}

impl<'a> MisuseJson<'a> {
    /// Gives the misuse of a process, in the order in which it began.
    pub(super) fn all(catalog: &'a Catalog<'a>, report: &'a ProcessReport<'a>) -> Vec<Self> {
        let misuses = report.misuses.iter();
        misuses
            .map(|misuse| MisuseJson::new(catalog, report.process, misuse))
            .collect()
    }

    fn new(catalog: &'a Catalog<'a>, process: &'a Process, misuse: &'a Misuse) -> Self {
        let stack = |end: &'a Option<MisuseStack>| {
            let stack = end.as_ref()?;
            Some(StackJson { catalog, stack })
        };
        let mut threads = process.threads.iter();
        let thread = threads.find(|thread| thread.tid == misuse.tid && misuse.tid != 0);
        MisuseJson {
            kind: misuse.kind.name(),
            address: format!("{:#x}", misuse.address),
            call: match misuse.is_realloc {
                true => "realloc",
                false => "free",
            },
            bytes: Some(misuse.bytes).filter(|&bytes| bytes > 0),
            inside_bytes: misuse.inside_bytes,
            said_bytes: misuse.said_bytes,
            certain: misuse.is_certain(),
            count: misuse.count,
            t_s: seconds(misuse.t_s),
            tid: Some(misuse.tid).filter(|&tid| tid != 0),
            thread: thread.map(|thread| thread.name.as_str()),
            stacks: StacksJson {
                allocated: stack(&misuse.allocated),
                first_freed: stack(&misuse.first_freed),
                freed: stack(&misuse.freed),
            },
        }
    }
}

impl Serialize for StackJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let calls = calls(self.catalog, self.stack);
        serializer.collect_seq(calls.iter().map(|call| FrameJson {
            symbol: call.symbol,
            library: call.library,
            offset: call.offset,
            file: call.file,
            line: call.line,
            inlined: call.is_inlined,
        }))
    }
}
