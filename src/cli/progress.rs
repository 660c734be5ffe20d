//! Shows progress: a bar on a terminal, and a line from time to time elsewhere.

use std::io::{IsTerminal, Write};
use std::ops::Deref;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use super::say;

/// Time between two lines.
const EVERY: Duration = Duration::from_secs(10);

/// A bar that is shown until it is finished or dropped.
pub(super) struct Progress {
    bar: ProgressBar,
    /// Its drop ends the lines.
    _lines: Option<Sender<()>>,
}

impl Deref for Progress {
    type Target = ProgressBar;

    fn deref(&self) -> &ProgressBar {
        &self.bar
    }
}

/// Returns a bar of unknown length.
pub(super) fn bar(what: &'static str) -> Progress {
    let style = ProgressStyle::with_template("{prefix} {wide_bar} {pos}/{len} {eta} {msg}");
    let bar = ProgressBar::new(0).with_prefix(what);
    // A template that does not parse leaves the default style.
    let bar = match style {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    };
    let is_seen = std::io::stderr().is_terminal();
    let lines = (!is_seen).then(|| tell(bar.clone(), EVERY, std::io::stderr()));
    Progress { bar, _lines: lines }
}

/// Writes the place of a bar every so often, until what is returned is dropped or the bar is finished.
fn tell(bar: ProgressBar, every: Duration, mut out: impl Write + Send + 'static) -> Sender<()> {
    let (sender, dropped) = channel();
    std::thread::spawn(move || {
        while dropped.recv_timeout(every) == Err(RecvTimeoutError::Timeout) && !bar.is_finished() {
            let (what, n, of) = (bar.prefix(), bar.position(), bar.length().unwrap_or_default());
            say(&mut out, &format!("{what}: {n} of {of}"));
        }
    });
    sender
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    /// Passes lines on to a test.
    struct Lines(Sender<String>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let text = String::from_utf8_lossy(bytes).into_owned();
            let sent = self.0.send(text).map(|()| bytes.len());
            sent.map_err(|_| io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_say_how_far_it_is_until_it_ends() {
        let (sender, lines) = channel();
        let bar = ProgressBar::hidden().with_prefix("encoding");
        bar.set_length(70);
        bar.inc(30);
        let told = tell(bar, Duration::from_millis(1), Lines(sender));
        assert_eq!(lines.recv().unwrap() + &lines.recv().unwrap(), "encoding: 30 of 70\n");
        drop(told);
        // The thread drops its end of the lines, which ends them.
        assert!(lines.into_iter().count() < 100_000);
    }
}
