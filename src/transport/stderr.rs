//! The standard error of a child process.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use tokio::sync::watch;

/// How much is kept, from the end.
const KEPT: usize = 4096;

/// Copies what a child writes to its standard error, and remembers the end of it.
///
/// This is a thread and not a task: a child must not hang on a full pipe because the runtime is
/// busy, nor die of a broken one because the runtime is gone before it. The thread ends when
/// the last process that has the pipe does, as if the pipe were not there.
#[derive(Debug)]
pub(super) struct Stderr {
    tail: Arc<Mutex<VecDeque<u8>>>,
    /// Closed at the end of the pipe.
    end: watch::Receiver<()>,
}

impl Default for Stderr {
    /// That of a child whose standard error is not ours to read.
    fn default() -> Self {
        Self {
            tail: Arc::default(),
            end: watch::channel(()).1,
        }
    }
}

impl Stderr {
    pub(super) fn read(pipe: OwnedFd, mut copy: impl Write + Send + 'static) -> io::Result<Self> {
        let mut pipe = File::from(pipe);
        let tail = Arc::new(Mutex::new(VecDeque::new()));
        let (ended, end) = watch::channel(());
        let kept = Arc::clone(&tail);
        thread::Builder::new()
            .name("nbd-stderr".into())
            .spawn(move || {
                let mut buffer = [0; KEPT];
                loop {
                    let read = match pipe.read(&mut buffer) {
                        Ok(0) => break,
                        Ok(length) => buffer.get(..length).unwrap_or_default(),
                        Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                        Err(_) => break,
                    };
                    keep(
                        &mut kept.lock().unwrap_or_else(PoisonError::into_inner),
                        read,
                    );
                    // Nowhere to complain, and the child must go on.
                    let _ = copy.write_all(read);
                }
                drop(pipe);
                drop(ended);
            })?;
        Ok(Self { tail, end })
    }

    /// Waits for the end of the pipe. Can be dropped and called again.
    pub(super) async fn end(&mut self) {
        while self.end.changed().await.is_ok() {}
    }

    /// The last [`KEPT`] bytes so far.
    pub(super) fn tail(&self) -> Vec<u8> {
        let tail = self.tail.lock().unwrap_or_else(PoisonError::into_inner);
        tail.iter().copied().collect()
    }
}

fn keep(tail: &mut VecDeque<u8>, read: &[u8]) {
    tail.extend(read);
    tail.drain(..tail.len().saturating_sub(KEPT));
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};
    use std::sync::mpsc;

    use super::*;

    /// Hands on what is copied to it.
    struct Copy(mpsc::Sender<Vec<u8>>);

    impl Write for Copy {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.0.send(bytes.to_vec());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Fails always.
    struct Broken;

    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// The end of what a shell script writes, once it has ended.
    async fn tail(script: &str, copy: impl Write + Send + 'static) -> Vec<u8> {
        let mut child = Command::new("sh")
            .args(["-c", script])
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let pipe = child.stderr.take().unwrap();
        let mut stderr = Stderr::read(pipe.into(), copy).unwrap();
        stderr.end().await;
        assert!(child.wait().unwrap().success());
        stderr.tail()
    }

    #[tokio::test]
    async fn k42_more_than_a_pipe_holds_is_copied_and_the_end_kept() {
        let (sender, receiver) = mpsc::channel();
        let script = "head -c 200000 /dev/zero >&2; printf 'no newline \\377' >&2";
        let tail = tail(script, Copy(sender)).await;
        let mut expected = vec![0; 200_000];
        expected.extend(b"no newline \xff");
        assert_eq!(receiver.iter().flatten().collect::<Vec<_>>(), expected);
        assert_eq!(tail, expected.split_off(expected.len() - KEPT));
    }

    #[tokio::test]
    async fn failing_copy_does_not_stop_the_child() {
        let script = "head -c 200000 /dev/zero >&2; echo end >&2";
        let tail = tail(script, Broken).await;
        assert!(tail.ends_with(b"end\n"));
    }

    #[tokio::test]
    async fn standard_error_of_our_own_has_ended() {
        let mut stderr = Stderr::default();
        stderr.end().await;
        assert_eq!(stderr.tail(), b"");
    }
}
