//! Where a report goes.

use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::path::Path;

use anyhow::{Context, bail};

use crate::report::Style;

/// What a report is written to.
pub(super) struct Output<'a> {
    out: Box<dyn Write>,
    /// What it can show.
    pub style: Style,
    path: Option<&'a Path>,
}

impl<'a> Output<'a> {
    /// Opens what is written to before the work starts, and after it is known that
    /// there is something to write: a mistyped recording costs no older report.
    pub(super) fn open(path: Option<&'a Path>, recordings: &[&Path]) -> anyhow::Result<Output<'a>> {
        let Some(path) = path else {
            let stdout = io::stdout();
            let style = Style::of(&stdout);
            return Ok(Output {
                out: Box::new(stdout.lock()),
                style,
                path: None,
            });
        };
        if recordings
            .iter()
            .any(|recording| is_same_file(path, recording))
        {
            bail!(
                "{} is the recording itself: choose another file to write to",
                path.display()
            );
        }
        let file =
            File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
        let style = Style::of(&file);
        Ok(Output {
            out: Box::new(file),
            style,
            path: Some(path),
        })
    }

    /// Has the report written.
    pub(super) fn write(
        mut self,
        report: impl FnOnce(&mut dyn Write, Style) -> io::Result<()>,
    ) -> anyhow::Result<()> {
        let name = self.path.unwrap_or(Path::new("standard output"));
        report(&mut self.out, self.style)
            .with_context(|| format!("cannot write {}", name.display()))
    }
}

/// Refuses to write what is no text where somebody would have to look at it.
pub(super) fn refuse_terminal(path: Option<&Path>, format: &str) -> anyhow::Result<()> {
    if path.is_none() && io::stdout().is_terminal() {
        bail!("{format} is not for terminals: name a file with -o OUT");
    }
    Ok(())
}

fn is_same_file(left: &Path, right: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    match (left.metadata(), right.metadata()) {
        (Ok(left), Ok(right)) => (left.dev(), left.ino()) == (right.dev(), right.ino()),
        _ => false,
    }
}
