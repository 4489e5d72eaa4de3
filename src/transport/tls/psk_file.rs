//! Files with pre-shared keys, as GnuTLS has them.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use zeroize::Zeroizing;

use crate::error::{Error, Reason, Result};
use crate::platform;

/// Far more than a file of keys has, in bytes.
const MAX_FILE: u64 = 1 << 20;
const WHAT: &str = "TLS key file";

/// The name of the user who runs this program.
pub(super) fn own_name() -> Result<String> {
    ["LOGNAME", "USER"]
        .into_iter()
        .filter_map(|variable| std::env::var(variable).ok())
        .find(|name| !name.is_empty())
        .ok_or_else(|| {
            Error::credentials(
                "TLS user",
                "none is given, and neither LOGNAME nor USER is set",
            )
        })
}

/// The key of this user.
pub(super) fn key_of(user: &str, path: &Path) -> Result<Vec<u8>> {
    let content = read(path)?;
    let fault = |why: &str| Error::credentials(WHAT, format!("{}: {why}", path.display()));
    for line in content.split(|byte| *byte == b'\n') {
        let line = line.trim_ascii();
        let key = line
            .strip_prefix(user.as_bytes())
            .and_then(|rest| rest.strip_prefix(b":"));
        if let Some(key) = key {
            return decode(key).ok_or_else(|| fault("the key of the user is not hexadecimal"));
        }
    }
    Err(fault("it has no key for the user"))
}

fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>> {
    let fault = |why: String| Error::credentials(WHAT, format!("{}: {why}", path.display()));
    let file = File::open(path).map_err(|error| fault(Reason(&error).to_string()))?;
    let metadata = file
        .metadata()
        .map_err(|error| fault(Reason(&error).to_string()))?;
    let mode = platform::mode(&metadata) & 0o777;
    if mode & 0o077 != 0 {
        let why = format!("others have access to it: its mode is {mode:04o}, and should be 0600");
        return Err(fault(why));
    }
    // As large as it can get, so that no copy is left behind where it was smaller.
    let size = metadata.len().min(MAX_FILE);
    let mut content = Zeroizing::new(Vec::with_capacity(usize::try_from(size).unwrap_or(0) + 1));
    file.take(MAX_FILE)
        .read_to_end(&mut content)
        .map_err(|error| fault(Reason(&error).to_string()))?;
    Ok(content)
}

fn decode(hex: &[u8]) -> Option<Vec<u8>> {
    let digit = |byte: u8| {
        char::from(byte)
            .to_digit(16)
            .and_then(|digit| u8::try_from(digit).ok())
    };
    if hex.len() % 2 != 0 {
        return None;
    }
    let mut key = Zeroizing::new(Vec::with_capacity(hex.len() / 2));
    for pair in hex.chunks_exact(2) {
        let [high, low] = pair else { return None };
        key.push(digit(*high)? << 4 | digit(*low)?);
    }
    Some(std::mem::take(&mut *key))
}
