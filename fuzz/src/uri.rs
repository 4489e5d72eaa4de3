//! URIs.

use nbd_client::{Uri, UriPolicy};

/// Text as a URI: refused, or read back the same from what it prints as.
pub fn uri(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let Ok(uri) = text.parse::<Uri>() else {
        return;
    };
    assert!(Uri::is_uri(&text));
    let canonical = uri.to_string();
    assert_eq!(canonical.parse(), Ok(uri.clone()), "{canonical}");
    assert!(canonical.bytes().all(|byte| byte.is_ascii_graphic()));
    assert!(!uri.export_name().contains('\0'));
    let debug = format!("{uri:?}");
    assert!(debug.bytes().all(|byte| byte.is_ascii_graphic()));
    for policy in [UriPolicy::default(), UriPolicy::remote()] {
        if let Err(error) = policy.check(&uri) {
            super::assert_printable(&error.to_string());
        }
    }
    if let Some(command) = uri.ssh_command() {
        // CVE-2025-14946: a host is never an option of ssh.
        assert!(!command.is_empty());
    }
}
