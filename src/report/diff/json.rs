//! `heapledger.diff/1`: what has changed, for programs.

use std::io::{self, BufWriter, Write};

use serde::Serialize;
use serde::ser::{SerializeSeq, Serializer};

use crate::analysis::{Change, Difference, Report, SiteName, StackName};
use crate::counts::Side;
use crate::recording::model::StackFigures;

/// Name and version of the format.
pub const SCHEMA: &str = "heapledger.diff/1";

/// Writes a difference. Rows are in the order of the measure's growth, the largest
/// first; keys may be added, never renamed.
///
/// # Errors
/// Those of `out`.
pub fn write(difference: &Difference, [old, new]: [&Report; 2], out: impl Write) -> io::Result<()> {
    let mut out = BufWriter::with_capacity(1 << 16, out);
    let document = DiffJson {
        schema: SCHEMA,
        old: RecordingJson::new(old),
        new: RecordingJson::new(new),
        measure: difference.measure.title(),
        growth: difference.total.growth(difference.measure),
        total: FiguresJson::new(&difference.total.figures),
        sites: Rows(&difference.sites, SiteJson::new),
        stacks_compared: difference.stacks.is_some(),
        stacks: Rows(
            difference.stacks.as_deref().unwrap_or_default(),
            StackJson::new,
        ),
    };
    serde_json::to_writer(&mut out, &document)?;
    out.write_all(b"\n")?;
    out.flush()
}

#[derive(Serialize)]
struct DiffJson<'a> {
    schema: &'static str,
    old: RecordingJson<'a>,
    new: RecordingJson<'a>,
    measure: &'static str,
    growth: i64,
    total: FiguresJson,
    sites: Rows<'a, SiteName<'a>, SiteJson<'a>>,
    stacks_compared: bool,
    stacks: Rows<'a, StackName<'a>, StackJson<'a>>,
}

#[derive(Serialize)]
struct RecordingJson<'a> {
    command: &'a [String],
    heapledger: &'a str,
    unix_ns: u64,
    warnings: &'a [String],
}

impl<'a> RecordingJson<'a> {
    fn new(report: &'a Report) -> RecordingJson<'a> {
        let recording = report.recording;
        RecordingJson {
            command: report.command(),
            heapledger: &recording.start.heapledger,
            unix_ns: recording.start.unix_ns,
            warnings: &recording.warnings,
        }
    }
}

/// Rows are made while they are written: there may be very many.
struct Rows<'a, N, R>(&'a [Change<N>], fn(&'a Change<N>) -> R);

impl<N, R: Serialize> Serialize for Rows<'_, N, R> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut rows = serializer.serialize_seq(Some(self.0.len()))?;
        for row in self.0 {
            rows.serialize_element(&(self.1)(row))?;
        }
        rows.end()
    }
}

#[derive(Serialize)]
struct SiteJson<'a> {
    library: &'a str,
    symbol: Option<&'a str>,
    side: &'static str,
    scope: Option<&'a str>,
    #[serde(flatten)]
    figures: FiguresJson,
}

impl<'a> SiteJson<'a> {
    fn new(change: &'a Change<SiteName<'a>>) -> SiteJson<'a> {
        SiteJson {
            library: change.name.library,
            symbol: change.name.symbol.as_deref(),
            side: Side::name(change.name.side),
            scope: change.name.scope,
            figures: FiguresJson::new(&change.figures),
        }
    }
}

#[derive(Serialize)]
struct StackJson<'a> {
    frames: Vec<FrameJson<'a>>,
    side: &'static str,
    scope: Option<&'a str>,
    #[serde(flatten)]
    figures: FiguresJson,
}

#[derive(Serialize)]
struct FrameJson<'a> {
    symbol: &'a str,
    library: Option<&'a str>,
}

impl<'a> StackJson<'a> {
    fn new(change: &'a Change<StackName<'a>>) -> StackJson<'a> {
        let frames = change.name.frames.iter().map(|label| FrameJson {
            symbol: label.name,
            library: label.library,
        });
        StackJson {
            frames: frames.collect(),
            side: Side::name(change.name.side),
            scope: change.name.scope,
            figures: FiguresJson::new(&change.figures),
        }
    }
}

/// Before, after, and after less before.
#[derive(Serialize)]
struct FiguresJson {
    old: FourJson,
    new: FourJson,
    change: FourJson,
}

#[derive(Serialize)]
struct FourJson {
    live_bytes: i64,
    live_blocks: i64,
    allocated_bytes: i64,
    allocated_blocks: i64,
}

impl FiguresJson {
    fn new([old, new]: &[StackFigures; 2]) -> FiguresJson {
        let [old, new] = [old, new].map(FourJson::new);
        FiguresJson {
            change: FourJson {
                live_bytes: new.live_bytes.saturating_sub(old.live_bytes),
                live_blocks: new.live_blocks.saturating_sub(old.live_blocks),
                allocated_bytes: new.allocated_bytes.saturating_sub(old.allocated_bytes),
                allocated_blocks: new.allocated_blocks.saturating_sub(old.allocated_blocks),
            },
            old,
            new,
        }
    }
}

impl FourJson {
    fn new(figures: &StackFigures) -> FourJson {
        let signed = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        FourJson {
            live_bytes: figures.live_bytes,
            live_blocks: figures.live_blocks,
            allocated_bytes: signed(figures.allocated_bytes),
            allocated_blocks: signed(figures.allocated_blocks),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::analysis::stacks::Stacks;
    use crate::analysis::{By, Filter, Measure, fixture};

    #[test]
    fn rows_have_names_and_both_figures() {
        let (old, mut new) = (fixture::with_stacks(), fixture::with_stacks());
        new.processes[0].owners[0].counts = fixture::counts((5_000_000, 6_000), (0, 0));
        new.processes[0].stacks.remove(1);
        let filter = Filter::default();
        let (old, new) = (Report::new(&old), Report::new(&new));
        let stacks = [&old, &new].map(|report| Stacks::new(report, &filter, By::Site).unwrap());
        let difference = Difference::new(&stacks[0], &stacks[1], Measure::Live);
        let mut out = Vec::new();
        write(&difference, [&old, &new], &mut out).unwrap();
        let json: Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(json["schema"], "heapledger.diff/1");
        assert_eq!(
            (&json["growth"], &json["measure"]),
            (&json!(1_000_000), &json!("live bytes"))
        );
        assert_eq!(
            json["sites"][0],
            json!({"library": "libcodec.so.1", "symbol": "decode_frame", "side": "c", "scope": "decode",
                   "old": {"live_bytes": 4_000_000, "live_blocks": 5_000, "allocated_bytes": 4_000_000, "allocated_blocks": 5_000},
                   "new": {"live_bytes": 5_000_000, "live_blocks": 6_000, "allocated_bytes": 5_000_000, "allocated_blocks": 6_000},
                   "change": {"live_bytes": 1_000_000, "live_blocks": 1_000, "allocated_bytes": 1_000_000, "allocated_blocks": 1_000}})
        );
        assert_eq!(json["total"]["change"]["live_bytes"], 1_000_000);
        let gone = &json["stacks"][1];
        assert_eq!(
            gone["frames"][0],
            json!({"symbol": "Vec::grow", "library": "player"})
        );
        assert_eq!(gone["change"]["live_bytes"], -200_000);
    }
}
