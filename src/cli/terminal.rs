//! What the verbs print: results on standard output, calm and plain when it is not a terminal.

use std::io::{self, IsTerminal, Write};

/// Standard output, with emphasis where it can be seen.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Terminal {
    is_styled: bool,
}

impl Terminal {
    /// Styled on a terminal, unless `NO_COLOR` is set (no-color.org).
    pub(crate) fn stdout() -> Self {
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self { is_styled: io::stdout().is_terminal() && !no_color }
    }

    #[cfg(test)]
    pub(crate) const fn plain() -> Self {
        Self { is_styled: false }
    }

    /// Writes one line. A reader that went away (`| head`) is no error of ours.
    pub(crate) fn line(self, text: impl AsRef<str>) -> io::Result<()> {
        self.write(text)?;
        self.write("\n")
    }

    /// Writes one line, for who goes on until somebody stops reading: a reader that went away is an error.
    pub(crate) fn line_to_reader(self, text: impl AsRef<str>) -> io::Result<()> {
        let mut out = io::stdout().lock();
        writeln!(out, "{}", text.as_ref())?;
        out.flush()
    }

    /// Writes `text` at once, without a line's end.
    pub(crate) fn write(self, text: impl AsRef<str>) -> io::Result<()> {
        let mut out = io::stdout().lock();
        match out.write_all(text.as_ref().as_bytes()).and_then(|()| out.flush()) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            written => written,
        }
    }

    pub(crate) fn bold(self, text: &str) -> String {
        self.styled("1", text)
    }

    pub(crate) fn dim(self, text: &str) -> String {
        self.styled("2", text)
    }

    pub(crate) fn alarm(self, text: &str) -> String {
        self.styled("31", text)
    }

    fn styled(self, code: &str, text: &str) -> String {
        if self.is_styled { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}

/// Writes one line to standard error, beside the results. With it gone, the verb still does its work.
pub(crate) fn notice(text: impl AsRef<str>) {
    let _ = writeln!(io::stderr(), "{}", text.as_ref());
}

/// Foreign text without the control characters that could move a terminal's cursor or retitle its window.
pub(crate) fn harmless(text: &str) -> String {
    text.chars().filter(|c| !c.is_control() || matches!(c, '\n' | '\t')).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_text_cannot_steer_the_terminal() {
        assert_eq!(harmless("a\u{1b}[2Jb\r\n\tc\u{9b}d\u{7}"), "a[2Jb\n\tcd");
    }

    #[test]
    fn plain_output_carries_no_codes() {
        assert_eq!(Terminal::plain().bold("x"), "x");
    }
}
