//! Writing to people (standard error) and to pipes (standard output).

use std::fmt;
use std::io::{self, IsTerminal, Write};

use base::Secret;
use nix::sys::termios::{self, LocalFlags, SetArg, Termios};
use zeroize::Zeroizing;

use crate::environment;
use crate::failure::{During, Exit, Failure, Outcome, output_broke};

/// A line for a person. Never data.
pub(crate) fn say(line: impl fmt::Display) {
    // Nobody is left to be told when standard error is gone.
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// A line of data.
pub(crate) fn print(line: impl fmt::Display) -> Outcome {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")
        .and_then(|()| out.flush())
        .map_err(|error| output_broke(&error))
}

/// Whether a person reads standard output.
pub(crate) fn shows_output() -> bool {
    io::stdout().is_terminal()
}

/// Whether a person reads standard error.
pub(crate) fn shows_messages() -> bool {
    io::stderr().is_terminal()
}

/// Whether colours are welcome on standard error.
pub(crate) fn colours() -> bool {
    shows_messages() && environment::text("NO_COLOR").is_none()
}

/// Asks a person, and says whether the answer was `yes`. Where nobody can be asked it was not.
pub(crate) fn confirmed(question: impl fmt::Display) -> bool {
    if !io::stdin().is_terminal() || !shows_messages() {
        return false;
    }
    say(format_args!("{question} Type yes:"));
    let mut answer = String::new();
    io::stdin().read_line(&mut answer).is_ok() && answer.trim() == "yes"
}

/// A line that nobody else may see: from the terminal without showing it, or from standard input, byte by byte, so that what follows is
/// left there.
pub(crate) fn secret(question: impl fmt::Display) -> Outcome<Secret> {
    const MOST: usize = 4096;
    let what = "could not read a secret";
    let _hidden = Hidden::on(io::stdin()).during(what)?;
    if io::stdin().is_terminal() {
        say(question);
    }
    let mut line = Zeroizing::new(Vec::with_capacity(MOST));
    let mut byte = Zeroizing::new([0]);
    // Not `Stdin`, whose buffer would keep it.
    while nix::unistd::read(io::stdin(), byte.as_mut()).during(what)? == 1 && byte[0] != b'\n' {
        if line.len() == MOST {
            return Err(Failure::new(Exit::Refused, what).why("the line is too long"));
        }
        line.push(byte[0]);
    }
    let text = std::str::from_utf8(&line).map_err(|_| Failure::new(Exit::Refused, what).why("it is not text"))?;
    if text.trim().is_empty() {
        return Err(Failure::new(Exit::Usage, what)
            .why("nothing was given")
            .next("type it at the prompt, or give it on standard input"));
    }
    Ok(Secret::new(text.trim().to_owned()))
}

/// A terminal that does not show what is typed, for as long as this lives.
struct Hidden(Option<(io::Stdin, Termios)>);

impl Hidden {
    fn on(terminal: io::Stdin) -> io::Result<Self> {
        if !terminal.is_terminal() {
            return Ok(Self(None));
        }
        let before = termios::tcgetattr(&terminal)?;
        let mut hidden = before.clone();
        hidden.local_flags.remove(LocalFlags::ECHO);
        hidden.local_flags.insert(LocalFlags::ECHONL);
        termios::tcsetattr(&terminal, SetArg::TCSAFLUSH, &hidden)?;
        Ok(Self(Some((terminal, before))))
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        if let Some((terminal, before)) = &self.0 {
            // Nothing more can be done for a terminal that is gone.
            let _ = termios::tcsetattr(terminal, SetArg::TCSAFLUSH, before);
        }
    }
}

/// A text from elsewhere with everything made visible that a terminal would obey.
pub(crate) fn harmless(text: &str) -> std::borrow::Cow<'_, str> {
    // Besides control characters: marks that turn the direction of text, with which a cell can pose as another.
    let bad = |c: char| c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    if !text.contains(bad) {
        return text.into();
    }
    text.chars()
        .fold(String::with_capacity(text.len()), |mut out, c| {
            match c {
                '\n' => out.push('⏎'),
                '\t' => out.push(' '),
                c if bad(c) => out.extend(c.escape_unicode()),
                c => out.push(c),
            }
            out
        })
        .into()
}

/// A number with its thousands set apart.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_made_visible() {
        assert_eq!(harmless("Käse"), "Käse");
        assert_eq!(harmless("a\u{1b}[2Jb\nc"), "a\\u{1b}[2Jb⏎c");
        assert_eq!(harmless("x\u{202e}y"), "x\\u{202e}y");
    }

    #[test]
    fn numbers_are_grouped_by_thousands() {
        for (number, text) in [
            (0, "0"),
            (999, "999"),
            (1000, "1,000"),
            (100_000, "100,000"),
            (1_234_567, "1,234,567"),
        ] {
            assert_eq!(grouped(number), text);
        }
    }
}
