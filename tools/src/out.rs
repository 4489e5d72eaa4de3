//! What a program prints. Who closes the pipe has seen enough: the program goes on, and its exit
//! code says how its work ended.

use std::fmt;
use std::io::{self, ErrorKind, Write as _};

/// Like `println!`.
macro_rules! say {
    ($($arg:tt)*) => {
        $crate::out::print(format_args!("{}\n", format_args!($($arg)*)))
    };
}
pub(crate) use say;

/// Like `eprintln!`.
macro_rules! complain {
    ($($arg:tt)*) => {
        $crate::out::print_error(format_args!("{}\n", format_args!($($arg)*)))
    };
}
pub(crate) use complain;

/// Writes to the standard output, and ends the program if that is impossible.
pub(crate) fn print(text: fmt::Arguments<'_>) {
    let mut out = io::stdout().lock();
    match out.write_fmt(text).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            print_error(format_args!("cannot write the output: {error}\n"));
            std::process::exit(1);
        }
        _ => {}
    }
}

/// Writes to the standard error output, if it can be written to.
pub(crate) fn print_error(text: fmt::Arguments<'_>) {
    let _ = io::stderr().lock().write_fmt(text);
}
