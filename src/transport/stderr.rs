//! The standard error of a child process.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use tokio::sync::watch;

/// The number of bytes that are kept, from the end.
const KEPT: usize = 4096;
/// The number of reads from the pipe after the child and its group have ended: together they take as
/// much as a pipe holds.
const LAST_READS: usize = 16;

/// Copies what a child writes to its standard error, and keeps the end of it.
///
/// This is a thread and not a task: a child must not hang on a full pipe because the runtime is
/// busy, nor be killed by a broken pipe because the runtime is gone first. The thread ends when the
/// last process that holds the pipe ends, or when this value is dropped, which must happen only after
/// the child and its group have ended.
#[derive(Debug)]
pub(super) struct Stderr {
    words: Words,
    /// Closed at the end of the pipe.
    end: watch::Receiver<()>,
}

impl Default for Stderr {
    /// That of a child whose standard error is not ours to read.
    fn default() -> Self {
        Self {
            words: Words::default(),
            end: watch::channel(()).1,
        }
    }
}

impl Stderr {
    /// Reads the pipe. What comes is held back until it is [released](Words::release) or
    /// [reported](Words::report), so that it need not be both copied and in an error.
    pub(super) fn read(pipe: OwnedFd, copy: impl Write + Send + 'static) -> io::Result<Self> {
        let (ours, theirs) = UnixStream::pair()?;
        let words = Words::default();
        let (ended, end) = watch::channel(());
        {
            let mut kept = words.lock();
            kept.holding = true;
            kept.control = Some(ours);
        }
        let reader = Reader {
            pipe: Some((File::from(pipe), ended)),
            control: theirs,
            words: words.clone(),
            copy,
        };
        thread::Builder::new()
            .name("nbd-stderr".into())
            .spawn(move || reader.run())?;
        Ok(Self { words, end })
    }

    /// Waits for the end of the pipe. Can be dropped and called again.
    pub(super) async fn end(&mut self) {
        while self.end.changed().await.is_ok() {}
    }

    /// What was written, for others.
    pub(super) const fn words(&self) -> &Words {
        &self.words
    }
}

impl Drop for Stderr {
    fn drop(&mut self) {
        // The thread sees that this end is closed.
        self.words.lock().control = None;
    }
}

/// The end of what a child has written to its standard error.
#[derive(Clone, Debug, Default)]
pub(crate) struct Words(Arc<Mutex<Kept>>);

#[derive(Debug, Default)]
struct Kept {
    tail: VecDeque<u8>,
    /// How many bytes at the end of `tail` are not copied yet.
    held: usize,
    /// Whether they are to stay so, as long as they are not too many.
    holding: bool,
    /// Wakes the thread; closed when the child is gone.
    control: Option<UnixStream>,
}

impl Words {
    /// The last [`KEPT`] bytes so far.
    pub(crate) fn tail(&self) -> Vec<u8> {
        self.lock().tail.iter().copied().collect()
    }

    /// From now on, everything is copied.
    pub(crate) fn release(&self) {
        let mut kept = self.lock();
        kept.holding = false;
        if let Some(mut control) = kept.control.as_ref() {
            // The thread is there as long as this is.
            let _ = control.write_all(&[0]);
        }
    }

    /// The last [`KEPT`] bytes so far, for an error, and whether they are copied. What was held
    /// back of them is not copied any more; everything after them is.
    pub(super) fn report(&self) -> (Vec<u8>, bool) {
        let mut kept = self.lock();
        let copied = !kept.holding;
        kept.holding = false;
        if !copied {
            kept.held = 0;
        }
        (kept.tail.iter().copied().collect(), copied)
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn push(&mut self, read: &[u8]) {
        self.tail.extend(read);
        self.held += read.len();
    }

    /// Takes what is to be copied now: what is not held back, and what there is no room for.
    fn take_due(&mut self) -> Vec<u8> {
        let start = self.tail.len() - self.held.min(self.tail.len());
        let excess = self.tail.len().saturating_sub(KEPT);
        let end = if self.holding {
            excess
        } else {
            self.tail.len()
        };
        let due: Vec<u8> = self.tail.range(start..end.max(start)).copied().collect();
        self.tail.drain(..excess);
        self.held -= due.len();
        due
    }
}

/// What the thread has.
struct Reader<W> {
    /// Until its end, which is then told.
    pipe: Option<(File, watch::Sender<()>)>,
    control: UnixStream,
    words: Words,
    copy: W,
}

impl<W: Write> Reader<W> {
    fn run(mut self) {
        let mut buffer = [0; KEPT];
        let mut is_kept = true;
        // At the end of the pipe something may be held back still.
        while is_kept && (self.pipe.is_some() || self.words.lock().held > 0) {
            let Ok((written, woken)) = self.poll(None) else {
                break;
            };
            if written {
                self.take_in(&mut buffer);
            }
            if woken {
                is_kept = self.control.read(&mut buffer).is_ok_and(|count| count > 0);
            }
            if !is_kept {
                self.words.lock().holding = false;
            }
            self.copy_due();
        }
        for _ in 0..LAST_READS {
            if self.pipe.is_none() || !self.poll(Some(&NOW)).is_ok_and(|(written, _)| written) {
                break;
            }
            self.take_in(&mut buffer);
            self.copy_due();
        }
        // From here on no process writes to the pipe.
        self.words.lock().control = None;
    }

    /// Waits until the pipe can be read, or the owner of the thread has sent an order.
    fn poll(&self, patience: Option<&Timespec>) -> io::Result<(bool, bool)> {
        let control = PollFd::from_borrowed_fd(self.control.as_fd(), PollFlags::IN);
        let mut fds = vec![control];
        if let Some((pipe, _)) = &self.pipe {
            fds.push(PollFd::from_borrowed_fd(pipe.as_fd(), PollFlags::IN));
        }
        match poll(&mut fds, patience) {
            Ok(_) => {}
            Err(Errno::INTR) => return Ok((false, false)),
            Err(error) => return Err(error.into()),
        }
        let is_ready = |fd: &PollFd<'_>| !fd.revents().is_empty();
        let woken = fds.first().is_some_and(is_ready);
        Ok((fds.get(1).is_some_and(is_ready), woken))
    }

    /// Reads once what is there.
    fn take_in(&mut self, buffer: &mut [u8]) {
        let Some((pipe, _)) = &mut self.pipe else {
            return;
        };
        match pipe.read(buffer) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Ok(0) | Err(_) => self.pipe = None,
            Ok(length) => {
                let read = buffer.get(..length).unwrap_or_default();
                self.words.lock().push(read);
            }
        }
    }

    fn copy_due(&mut self) {
        let due = self.words.lock().take_due();
        // Nowhere to complain, and the child must go on.
        let _ = self.copy.write_all(&due);
    }
}

const NOW: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 0,
};

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

    /// What a shell script writes, once it has ended.
    async fn run(script: &str, copy: impl Write + Send + 'static) -> Stderr {
        let mut child = Command::new("sh")
            .args(["-c", script])
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let pipe = child.stderr.take().unwrap();
        let mut stderr = Stderr::read(pipe.into(), copy).unwrap();
        stderr.end().await;
        assert!(child.wait().unwrap().success());
        stderr
    }

    /// What is copied until the thread ends.
    fn copied(receiver: &mpsc::Receiver<Vec<u8>>) -> Vec<u8> {
        receiver.iter().flatten().collect()
    }

    #[tokio::test]
    async fn k42_more_than_a_pipe_holds_is_copied_and_the_end_kept() {
        let (sender, receiver) = mpsc::channel();
        let script = "head -c 200000 /dev/zero >&2; printf 'no newline \\377' >&2";
        let stderr = run(script, Copy(sender)).await;
        let tail = stderr.words().tail();
        drop(stderr);
        let mut expected = vec![0; 200_000];
        expected.extend(b"no newline \xff");
        assert_eq!(copied(&receiver), expected);
        assert_eq!(tail, expected.split_off(expected.len() - KEPT));
    }

    #[tokio::test]
    async fn what_is_reported_is_not_copied_and_what_is_not_is() {
        for excess in [0, 1, KEPT, 10_000] {
            let (sender, receiver) = mpsc::channel();
            let script = format!("head -c {excess} /dev/zero >&2; head -c {KEPT} /dev/zero >&2");
            let stderr = run(&script, Copy(sender)).await;
            let (tail, is_copied) = stderr.words().report();
            drop(stderr);
            assert_eq!(tail.len(), KEPT);
            assert!(!is_copied);
            assert_eq!(copied(&receiver).len(), excess);
        }
    }

    #[tokio::test]
    async fn what_was_held_back_is_copied_when_it_is_released() {
        let (sender, receiver) = mpsc::channel();
        let stderr = run("echo first >&2; echo last >&2", Copy(sender)).await;
        assert!(receiver.try_recv().is_err());
        stderr.words().release();
        // The thread ends, as nothing can come any more.
        assert_eq!(copied(&receiver), b"first\nlast\n");
        assert_eq!(stderr.words().report(), (b"first\nlast\n".to_vec(), true));
    }

    #[tokio::test]
    async fn nothing_is_read_any_more_when_the_child_is_gone() {
        let (sender, receiver) = mpsc::channel();
        // As by a process that has left the group and goes on.
        let (mut writer, pipe) = UnixStream::pair().unwrap();
        let stderr = Stderr::read(pipe.into(), Copy(sender)).unwrap();
        writer.write_all(b"words").unwrap();
        drop(stderr);
        assert_eq!(copied(&receiver), b"words");
        assert!(writer.write_all(b"more").is_err());
    }

    #[tokio::test]
    async fn failing_copy_does_not_stop_the_child() {
        let script = "head -c 200000 /dev/zero >&2; echo end >&2";
        let stderr = run(script, Broken).await;
        assert!(stderr.words().tail().ends_with(b"end\n"));
    }

    #[tokio::test]
    async fn standard_error_of_our_own_has_ended() {
        let mut stderr = Stderr::default();
        stderr.end().await;
        assert_eq!(stderr.words().tail(), b"");
    }
}
