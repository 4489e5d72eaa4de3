//! The file that says what of a copy is durable, to go on from there.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nbd_client::Checkpoint;
use serde::{Deserialize, Serialize};

use super::Failure;
use crate::place::Place;

/// A checkpoint and of what it is.
#[derive(Clone, Debug)]
pub(crate) struct Resume {
    path: PathBuf,
    source: String,
    destination: String,
    /// Why the newest checkpoint was not kept, if it was not.
    failure: Arc<Mutex<Option<String>>>,
}

/// What is in the file.
#[derive(Deserialize, Serialize)]
struct Form {
    source: String,
    destination: String,
    checkpoint: Checkpoint,
}

impl Resume {
    /// The file of a copy. It is tried out at once whether it can be written.
    pub(crate) fn new(path: &Path, source: &Place, destination: &Place) -> Result<Self, Failure> {
        let resume = Self {
            path: path.into(),
            source: source.to_string(),
            destination: destination.to_string(),
            failure: Arc::default(),
        };
        let new = resume.new_path();
        let tried = File::create(&new).and_then(|_| fs::remove_file(&new));
        tried.map_err(|error| {
            format!(
                "cannot keep {}: {error}; --resume needs a file that can be written",
                resume.path.display()
            )
        })?;
        Ok(resume)
    }

    /// Returns what an earlier copy has left, if it has.
    pub(crate) fn read(&self) -> Result<Option<Checkpoint>, Failure> {
        let path = self.path.display();
        let text = match fs::read(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(format!("cannot read {path}: {error}").into()),
        };
        let form: Form = serde_json::from_slice(&text).map_err(|error| {
            format!("{path} has no checkpoint: {error}; remove it to copy from the start")
        })?;
        if (&form.source, &form.destination) != (&self.source, &self.destination) {
            let (source, destination) = (form.source, form.destination);
            return Err(format!(
                "{path} is of the copy from {source} to {destination}; remove it to copy from the \
                 start"
            )
            .into());
        }
        Ok(Some(form.checkpoint))
    }

    /// Replaces what is in the file, at once or not at all.
    pub(crate) fn write(&self, checkpoint: &Checkpoint) -> io::Result<()> {
        let written = self.replace(checkpoint);
        let failure = written.as_ref().err().map(io::Error::to_string);
        if failure.is_some() {
            // It may not be there.
            let _ = fs::remove_file(self.new_path());
        }
        *self.lock_failure() = failure;
        written
    }

    /// Why the newest checkpoint was not kept, if it was not.
    pub(crate) fn failure(&self) -> Option<String> {
        self.lock_failure().clone()
    }

    fn lock_failure(&self) -> MutexGuard<'_, Option<String>> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn replace(&self, checkpoint: &Checkpoint) -> io::Result<()> {
        let form = Form {
            source: self.source.clone(),
            destination: self.destination.clone(),
            checkpoint: checkpoint.clone(),
        };
        let new = self.new_path();
        let mut file = File::create(&new)?;
        file.write_all(&serde_json::to_vec(&form)?)?;
        file.sync_all()?;
        fs::rename(&new, &self.path)
    }

    /// Removes the file: the copy is complete.
    pub(crate) fn remove(&self) -> Result<(), Failure> {
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                let path = self.path.display();
                Err(format!("the copy is complete, but {path} cannot be removed: {error}").into())
            }
            _ => Ok(()),
        }
    }

    pub(crate) fn exists(&self) -> bool {
        self.path.exists()
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    fn new_path(&self) -> PathBuf {
        new_path(&self.path)
    }
}

/// Returns the file that is written first, and then takes the place of the one at `path`.
pub(crate) fn new_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    name.into()
}
