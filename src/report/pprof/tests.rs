use std::collections::BTreeMap;
use std::io::Read;

use flate2::read::GzDecoder;

use super::*;
use crate::analysis::{By, Filter, Report, fixture};
use crate::recording::Recording;

/// A message's fields, in order.
struct Fields<'a>(&'a [u8]);

enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

impl<'a> Fields<'a> {
    fn varint(&mut self) -> u64 {
        let length = self.0.iter().position(|byte| byte & 0x80 == 0).unwrap() + 1;
        let (bytes, rest) = self.0.split_at(length);
        self.0 = rest;
        let fold = |value, &byte: &u8| value << 7 | u64::from(byte & 0x7f);
        bytes.iter().rev().fold(0, fold)
    }

    fn all(mut self) -> Vec<(u64, Value<'a>)> {
        let mut fields = Vec::new();
        while !self.0.is_empty() {
            let key = self.varint();
            let first = self.varint();
            let value = match key & 7 {
                0 => Value::Number(first),
                2 => {
                    let (bytes, rest) = self.0.split_at(first as usize);
                    self.0 = rest;
                    Value::Bytes(bytes)
                }
                other => panic!("wire type {other}"),
            };
            fields.push((key >> 3, value));
        }
        fields
    }

    fn packed(mut self) -> Vec<u64> {
        let mut values = Vec::new();
        while !self.0.is_empty() {
            values.push(self.varint());
        }
        values
    }
}

/// A message by field: numbers, and messages or texts.
#[derive(Default)]
struct Decoded<'a> {
    numbers: BTreeMap<u64, u64>,
    bytes: BTreeMap<u64, Vec<&'a [u8]>>,
}

fn decoded(bytes: &[u8]) -> Decoded<'_> {
    let mut decoded = Decoded::default();
    for (field, value) in Fields(bytes).all() {
        match value {
            Value::Number(number) => drop(decoded.numbers.insert(field, number)),
            Value::Bytes(bytes) => decoded.bytes.entry(field).or_default().push(bytes),
        }
    }
    decoded
}

impl<'a> Decoded<'a> {
    fn number(&self, field: u64) -> u64 {
        self.numbers.get(&field).copied().unwrap_or(0)
    }

    fn messages(&self, field: u64) -> Vec<Decoded<'a>> {
        let all = self.bytes.get(&field).into_iter().flatten();
        all.map(|bytes| decoded(bytes)).collect()
    }
}

fn profile(recording: &Recording, by: By, measure: Measure) -> Vec<u8> {
    let report = Report::new(recording);
    let filter = Filter {
        measure,
        ..Filter::default()
    };
    let stacks = Stacks::new(&report, &filter, by).unwrap();
    let mut compressed = Vec::new();
    write(&stacks, measure, &mut compressed).unwrap();
    let mut bytes = Vec::new();
    GzDecoder::new(&compressed[..])
        .read_to_end(&mut bytes)
        .unwrap();
    bytes
}

/// Writes a profile out: a line a sample, `innermost < ... < outermost {labels} values`.
fn shown(bytes: &[u8]) -> Vec<String> {
    let profile = decoded(bytes);
    let strings: Vec<&str> = profile.bytes[&field::STRING_TABLE]
        .iter()
        .map(|text| std::str::from_utf8(text).unwrap())
        .collect();
    let text = |index: u64| strings[index as usize];
    let functions = profile.messages(field::FUNCTION);
    let function = |id: u64| {
        let function = functions.iter().find(|function| function.number(1) == id);
        let function = function.expect("every function is there");
        format!("{}@{}", text(function.number(2)), text(function.number(4)))
    };
    let mappings = profile.messages(field::MAPPING);
    let locations = profile.messages(field::LOCATION);
    let location = |id: u64| {
        let location = locations.iter().find(|location| location.number(1) == id);
        let location = location.expect("every location is there");
        if let Some(mapping) = mappings
            .iter()
            .find(|mapping| mapping.number(1) == location.number(2))
        {
            let range = mapping.number(2)..mapping.number(3);
            assert!(range.contains(&location.number(3)), "{range:?}");
        }
        let lines = location.messages(4);
        let lines = lines
            .iter()
            .map(|line| format!("{}:{}", function(line.number(1)), line.number(2)));
        lines.collect::<Vec<_>>().join(" in ")
    };
    let mut samples = Vec::new();
    for sample in profile.messages(field::SAMPLE) {
        let path = Fields(sample.bytes[&1][0]).packed();
        let path: Vec<String> = path.into_iter().map(location).collect();
        let labels = sample.messages(3);
        let labels = labels.iter().map(|label| {
            let value = match label.number(2) {
                0 => label.number(3).to_string(),
                index => text(index).to_owned(),
            };
            format!("{}={value}", text(label.number(1)))
        });
        let labels = labels.collect::<Vec<_>>().join(" ");
        let values = Fields(sample.bytes[&2][0]).packed();
        let values: Vec<i64> = values.into_iter().map(|value| value as i64).collect();
        samples.push(format!("{} {{{labels}}} {values:?}", path.join(" < ")));
    }
    samples
}

#[test]
fn samples_have_their_frames_labels_and_four_values() {
    assert_eq!(
        shown(&profile(&fixture::with_stacks(), By::Site, Measure::Live)),
        [
            "decode_frame@:0 < Vec::grow@/rust/vec.rs:7 in player::parse@/src/player/parse.rs:42 < main@:0 \
             {side=c scope=decode thread=decoder tid=101 pid=100} [5000, 4000000, 5000, 4000000]",
            "Vec::grow@/rust/vec.rs:7 in player::parse@/src/player/parse.rs:42 < main@:0 < (truncated)@:0 \
             {side=rust thread=player tid=100 pid=100} [20, 200000, 20, 200000]",
        ]
    );
}

#[test]
fn without_stacks_samples_have_one_frame() {
    let shown = shown(&profile(&fixture::recording(), By::Library, Measure::Live));
    assert_eq!(
        shown[0],
        "libcodec.so.1@:0 {side=c scope=decode pid=100} [5000, 4000000, 5000, 4000000]"
    );
    assert_eq!(shown.len(), 3);
}

#[test]
fn values_have_the_names_that_tools_look_for() {
    let names = |measure| {
        let bytes = profile(&fixture::with_stacks(), By::Site, measure);
        let profile = decoded(&bytes);
        let text = |index: u64| {
            let text = profile.bytes[&field::STRING_TABLE][index as usize];
            std::str::from_utf8(text).unwrap().to_owned()
        };
        let mut names: Vec<String> = profile
            .messages(field::SAMPLE_TYPE)
            .iter()
            .map(|kind| format!("{}/{}", text(kind.number(1)), text(kind.number(2))))
            .collect();
        names.push(text(profile.number(field::DEFAULT_SAMPLE_TYPE)));
        assert_eq!(text(0), "");
        names
    };
    let mut four = vec![
        "alloc_objects/count",
        "alloc_space/bytes",
        "inuse_objects/count",
        "inuse_space/bytes",
    ];
    assert_eq!(
        names(Measure::Allocated),
        [&four[..], &["alloc_space"]].concat()
    );
    four.push("inuse_space");
    assert_eq!(names(Measure::Live), four);
    assert_eq!(
        names(Measure::Peak)[4..],
        ["peak_space/bytes", "peak_space"]
    );
}

#[test]
fn mappings_carry_their_build_ids_and_do_not_overlap() {
    let mut recording = fixture::with_stacks();
    // A module beyond what any file can be, and one that is an enemy's.
    recording.sites[2].offset = u64::MAX;
    let bytes = profile(&recording, By::Site, Measure::Live);
    let profile = decoded(&bytes);
    let mappings = profile.messages(field::MAPPING);
    let text = |index: u64| profile.bytes[&field::STRING_TABLE][index as usize];
    assert_eq!(text(mappings[0].number(5)), b"/usr/bin/player");
    assert_eq!(text(mappings[1].number(5)), b"/usr/lib/libcodec.so.1");
    assert_eq!(text(mappings[1].number(6)), b"cafe");
    assert!(mappings[0].number(3) <= mappings[1].number(2));
    assert_eq!(shown(&bytes).len(), 2);
}

#[test]
fn how_rust_gets_its_memory_is_left_off_by_pprof() {
    let bytes = profile(&fixture::with_stacks(), By::Site, Measure::Live);
    let profile = decoded(&bytes);
    let strings = &profile.bytes[&field::STRING_TABLE];
    let dropped = strings[profile.number(field::DROP_FRAMES) as usize];
    assert_eq!(dropped, PLUMBING.as_bytes());
}
