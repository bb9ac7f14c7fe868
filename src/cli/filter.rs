//! What part of a recording is looked at: options that `report` and `diff` share.

use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, ValueEnum};

use super::size::Size;
use crate::analysis::{By, Filter, Measure, Suppressions};
use crate::counts::Side;

#[derive(Args)]
#[command(next_help_heading = "Which part of it")]
pub(super) struct FilterArguments {
    /// One side alone
    #[arg(long, value_enum)]
    side: Option<SideArgument>,
    /// What was booked within this scope
    #[arg(long, value_name = "NAME")]
    scope: Option<String>,
    /// What was asked for through this library: a call site in it, or a stack with a frame in it
    #[arg(long, value_name = "NAME")]
    library: Option<String>,
    /// What has at least so many bytes of the measure
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true)]
    min: Option<Size>,
    /// The figure that counts
    #[arg(long, value_enum, default_value_t = MeasureArgument::Live)]
    measure: MeasureArgument,
    /// Leave out what a file names, in LeakSanitizer's format: lines of leak:PATTERN
    #[arg(long, value_name = "FILE")]
    suppressions: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum SideArgument {
    C,
    Rust,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum MeasureArgument {
    /// Bytes held at the end
    Live,
    /// Bytes ever allocated
    Allocated,
    /// Bytes held near the peak
    Peak,
    /// Blocks held at the end
    Blocks,
    /// Bytes freed by the next operation of the same thread (recordings of mode full)
    Temporary,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum ByArgument {
    /// Call sites; stacks as they were
    Site,
    /// Libraries; stacks of libraries
    Library,
    /// Scopes; stacks below their scope
    Scope,
    /// Threads; stacks below their thread
    Thread,
}

impl FilterArguments {
    /// Gives the filter that was asked for.
    pub(super) fn filter(&self) -> anyhow::Result<Filter> {
        Ok(Filter {
            side: self.side.map(|side| match side {
                SideArgument::C => Side::C,
                SideArgument::Rust => Side::Rust,
            }),
            scope: self.scope.clone(),
            library: self.library.clone(),
            min_bytes: self.min.map_or(0, |size| size.bytes),
            measure: match self.measure {
                MeasureArgument::Live => Measure::Live,
                MeasureArgument::Allocated => Measure::Allocated,
                MeasureArgument::Peak => Measure::Peak,
                MeasureArgument::Blocks => Measure::Blocks,
                MeasureArgument::Temporary => Measure::Temporary,
            },
            suppressions: self.read_suppressions()?,
            may_be_absent: false,
        })
    }

    fn read_suppressions(&self) -> anyhow::Result<Suppressions> {
        let Some(path) = &self.suppressions else {
            return Ok(Suppressions::default());
        };
        let name = path.display();
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read suppressions {name}"))?;
        Suppressions::parse(&text).with_context(|| format!("cannot use suppressions {name}"))
    }
}

impl From<ByArgument> for By {
    fn from(by: ByArgument) -> By {
        match by {
            ByArgument::Site => By::Site,
            ByArgument::Library => By::Library,
            ByArgument::Scope => By::Scope,
            ByArgument::Thread => By::Thread,
        }
    }
}
