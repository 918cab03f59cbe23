//! Progress of a download: a bar on a terminal, plain lines elsewhere, on standard error.

use std::cell::RefCell;

use crate::terminal::print::note;
use indicatif::{HumanBytes, ProgressBar, ProgressStyle};

/// Where progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProgressMode {
    /// A bar that redraws itself: for a terminal.
    Bar,
    /// A line every tenth of the way: for a log.
    Lines,
}

/// Shows one file after another.
pub struct Progress {
    display: RefCell<Display>,
}

enum Display {
    Bar(ProgressBar),
    Lines(Lines),
}

/// The next line is due at `due` bytes.
#[derive(Default)]
struct Lines {
    label: String,
    total: Option<u64>,
    due: u64,
}

impl Progress {
    /// A display with nothing on it yet.
    pub fn new(reporting: ProgressMode) -> Self {
        let display = match reporting {
            ProgressMode::Bar => Display::Bar(ProgressBar::hidden()),
            ProgressMode::Lines => Display::Lines(Lines::default()),
        };
        Self { display: RefCell::new(display) }
    }

    /// Begins a file of `total` bytes, `at` of which are present.
    pub fn begin(&self, label: &str, at: u64, total: Option<u64>) {
        match &mut *self.display.borrow_mut() {
            Display::Bar(bar) => *bar = new_bar(label, at, total),
            Display::Lines(lines) => {
                *lines = Lines { label: label.to_owned(), total, due: at };
                lines.advance(at);
            }
        }
    }

    /// The download is at `at` bytes.
    pub fn advance(&self, at: u64) {
        match &mut *self.display.borrow_mut() {
            Display::Bar(bar) => bar.set_position(at),
            Display::Lines(lines) => lines.advance(at),
        }
    }

    /// The file is done, or the attempt is over.
    pub fn end(&self) {
        if let Display::Bar(bar) = &*self.display.borrow() {
            bar.abandon();
        }
    }

    /// Prints a message without disturbing the bar.
    pub fn note(&self, text: &str) {
        match &*self.display.borrow() {
            Display::Bar(bar) if !bar.is_finished() => bar.suspend(|| note(text)),
            _ => note(text),
        }
    }
}

impl Lines {
    const STEP_WITHOUT_TOTAL: u64 = 64 << 20;

    fn advance(&mut self, at: u64) {
        if at < self.due {
            return;
        }
        match self.total {
            Some(total) if total > 0 => {
                note(format!(
                    "{}: {} of {} ({} %)",
                    self.label,
                    HumanBytes(at),
                    HumanBytes(total),
                    at.saturating_mul(100) / total
                ));
                self.due = at + (total / 10).max(1);
            }
            _ => {
                note(format!("{}: {}", self.label, HumanBytes(at)));
                self.due = at + Self::STEP_WITHOUT_TOTAL;
            }
        }
        // The last line shows that the file is complete.
        if let Some(total) = self.total
            && at < total
        {
            self.due = self.due.min(total);
        }
    }
}

fn new_bar(label: &str, at: u64, total: Option<u64>) -> ProgressBar {
    let (bar, template) = match total {
        Some(total) => {
            (ProgressBar::new(total), "{prefix} [{bar:40}] {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left")
        }
        None => (ProgressBar::no_length(), "{prefix} {spinner} {bytes}, {bytes_per_sec}"),
    };
    // The templates are constants; should one be wrong, the bar's own style is good enough.
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style.progress_chars("=> "));
    }
    bar.set_prefix(label.to_owned());
    bar.set_position(at);
    // Speed is measured from here: resumed bytes were not downloaded now.
    bar.reset_eta();
    bar
}
