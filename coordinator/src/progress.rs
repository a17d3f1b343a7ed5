//! Progress of a long command: a bar with rate and time left on a terminal, plain lines elsewhere.

use std::io::IsTerminal as _;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// The pause between two plain lines.
const BETWEEN_LINES: Duration = Duration::from_secs(10);

/// One stage of a command, on standard error.
pub struct Progress {
    what: &'static str,
    unit: &'static str,
    bar: Option<ProgressBar>,
    lines: Mutex<Lines>,
}

struct Lines {
    started: Instant,
    last: Instant,
}

impl Progress {
    /// A stage that counts `unit`s up to `total` (0 where it is not known).
    pub fn start(what: &'static str, unit: &'static str, total: u64) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| bar(what, unit, total));
        let now = Instant::now();
        Self { what, unit, bar, lines: Mutex::new(Lines { started: now, last: now }) }
    }

    /// `done` of `total` so far.
    pub fn set(&self, done: u64, total: u64) {
        if let Some(bar) = &self.bar {
            bar.set_length(total);
            bar.set_position(done);
            return;
        }
        let mut lines = self.lines.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if lines.last.elapsed() < BETWEEN_LINES {
            return;
        }
        lines.last = Instant::now();
        let seconds = lines.started.elapsed().as_secs_f64();
        let rate = done as f64 / seconds;
        let left = if rate > 0.0 { total.saturating_sub(done) as f64 / rate } else { 0.0 };
        eprintln!(
            "{}: {done} of {total} {}, {rate:.1}/s, {} left",
            self.what,
            self.unit,
            crate::status::text::duration(left)
        );
    }

    /// The stage is over.
    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.finish();
    }
}

fn bar(what: &'static str, unit: &'static str, total: u64) -> ProgressBar {
    let template =
        format!("{what:<8} {{wide_bar}} {{human_pos}}/{{human_len}} {unit} {{per_sec}} {{eta}} left");
    // The template is a constant but for two words: a mistake in it would be seen at the first run.
    let style = ProgressStyle::with_template(&template).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(total).with_style(style)
}
