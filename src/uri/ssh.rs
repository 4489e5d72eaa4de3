//! From [`Uri`] to a command line for `ssh`.
//!
//! Two shells read what stands here: the one `ssh` starts on the other machine reads the command,
//! and a local one may read host and user, if the configuration of `ssh` has them in a
//! `ProxyCommand` or a `Match exec`. Both have been ways to run commands from a URI
//! (CVE-2025-14946 in libnbd, CVE-2023-51385 in OpenSSH).

use std::ffi::{OsStr, OsString};
use std::path::Path;

use super::{Endpoint, SshRemote, Uri, UriError, build, short};
use crate::platform::os_string;

impl Uri {
    /// The command that reaches the server of an `nbd+ssh` or `nbds+ssh` URI; `None` for others.
    ///
    /// It is a list of arguments, not for a shell, and talks NBD on its standard input and output.
    /// On the other machine it runs `nc`, which must know `-U` if the server has a Unix socket.
    ///
    /// Nothing in the URI can become an option or a command: host and user consist of letters,
    /// digits and a few harmless characters and do not start with a dash, no option is read after
    /// the `--`, and the path is quoted for the shell of the other machine, which may be any that
    /// quotes like `sh`, `csh` or `fish`.
    ///
    /// ```
    /// use nbd_client::Uri;
    ///
    /// let uri: Uri = "nbd+ssh://backup@storage:2222/disk?socket=/run/nbd%20's.sock".parse()?;
    /// assert_eq!(
    ///     uri.ssh_command().unwrap(),
    ///     ["ssh", "-T", "-p", "2222", "-l", "backup", "--", "storage", r"nc -U '/run/nbd '\''s.sock'"],
    /// );
    ///
    /// assert!("nbd+ssh://-oProxyCommand=xterm/".parse::<Uri>().is_err());
    /// # Ok::<(), nbd_client::UriError>(())
    /// ```
    #[must_use]
    pub fn ssh_command(&self) -> Option<Vec<OsString>> {
        let Endpoint::Ssh {
            user,
            host,
            port,
            compress,
            remote,
        } = self.endpoint()
        else {
            return None;
        };
        // A terminal would change the bytes, so there is none even if the configuration asks for
        // one.
        let mut command: Vec<OsString> = vec!["ssh".into(), "-T".into()];
        if *compress {
            command.push("-C".into());
        }
        if let Some(port) = port {
            command.extend(["-p".into(), port.to_string().into()]);
        }
        if let Some(user) = user {
            command.extend(["-l".into(), user.into()]);
        }
        command.extend(["--".into(), host.into()]);
        command.push(match remote {
            SshRemote::Tcp { port } => format!("nc localhost {port}").into(),
            SshRemote::Unix { path } => {
                let mut nc = OsString::from("nc -U ");
                // A path that starts with a dash would be an option of nc.
                if path.as_os_str().as_encoded_bytes().starts_with(b"-") {
                    nc.push("./");
                }
                nc.push(quoted(path.as_os_str()));
                nc
            }
        });
        Some(command)
    }
}

/// Quotes one word for a POSIX shell, and for csh and fish.
///
/// Single quotes protect everything in all of them, but for three characters, which are written
/// outside of the quotes: the single quote itself; the backslash, which in fish can escape the
/// closing quote; and the exclamation mark, with which csh repeats earlier words, quoted or not
/// (`!#` is the command itself, quotes included).
fn quoted(word: &OsStr) -> OsString {
    let mut quoted = vec![b'\''];
    for &byte in word.as_encoded_bytes() {
        match byte {
            b'\'' => quoted.extend(br"'\''"),
            b'\\' => quoted.extend(br"'\\'"),
            b'!' => quoted.extend(br"'\!'"),
            _ => quoted.push(byte),
        }
    }
    quoted.push(b'\'');
    // Only ASCII was added.
    os_string(quoted).unwrap_or_default()
}

/// Checks a host for `ssh`: it must not be an option (CVE-2025-14946), another form of
/// destination (`user@host`, `ssh://…`), or mean something to a shell.
pub(super) fn host(text: &str) -> Result<String, UriError> {
    let host = build::host("host", text)?;
    let harmless = |b: u8| b.is_ascii_alphanumeric() || b"._-:%".contains(&b);
    if host.starts_with('-') || !host.bytes().all(harmless) {
        let why = format!("{:?} is not a host for ssh", short(text));
        return Err(UriError::part("host", why));
    }
    Ok(host)
}

/// Checks a user for `ssh`. Does not repeat it: it is userinfo.
pub(super) fn user(text: &str) -> Result<(), UriError> {
    let harmless = |b: u8| b.is_ascii_alphanumeric() || b"._-+@".contains(&b);
    if text.is_empty() || text.starts_with('-') || !text.bytes().all(harmless) {
        let why = "it must consist of letters, digits and . _ - + @, and not start with a dash";
        return Err(UriError::part("ssh user name", why));
    }
    Ok(())
}

/// Checks the path of a remote socket, which goes through a remote shell.
pub(super) fn path(path: &Path) -> Result<(), UriError> {
    let bytes = path.as_os_str().as_encoded_bytes();
    if bytes.is_empty() {
        Err(UriError::part("socket", "it is empty"))
    } else if bytes.first() == Some(&0) {
        let why = "an abstract socket cannot be reached through ssh";
        Err(UriError::part("socket", why))
    } else if bytes.iter().any(u8::is_ascii_control) {
        // No shell quotes all of them.
        let why = "it contains a control character";
        Err(UriError::part("socket", why))
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt;
    use std::path::PathBuf;
    use std::process::Command;

    use proptest::prelude::*;

    use super::*;

    fn over_ssh(host: &str, remote: SshRemote) -> Result<Uri, UriError> {
        Uri::builder(Endpoint::Ssh {
            user: None,
            host: host.to_owned(),
            port: None,
            compress: false,
            remote,
        })
        .build()
    }

    fn command(uri: &str) -> Vec<String> {
        let uri: Uri = uri.parse().expect(uri);
        let command = uri.ssh_command().expect("an ssh URI");
        let utf8 = |word: OsString| word.into_string().expect("UTF-8");
        command.into_iter().map(utf8).collect()
    }

    #[test]
    fn command_has_everything_the_uri_asks_for() {
        assert_eq!(
            command("nbd+ssh://h/disk"),
            ["ssh", "-T", "--", "h", "nc localhost 10809"]
        );
        assert_eq!(
            command("nbds+ssh://u@[::1]:22/?nbd-port=10810&compress=true&tls-username=alice"),
            [
                "ssh",
                "-T",
                "-C",
                "-p",
                "22",
                "-l",
                "u",
                "--",
                "::1",
                "nc localhost 10810"
            ]
        );
        assert_eq!(
            command("nbd+ssh://h/?socket=nbd.sock"),
            ["ssh", "-T", "--", "h", "nc -U 'nbd.sock'"]
        );
        let tcp: Uri = "nbd://h/".parse().expect("valid");
        assert_eq!(tcp.ssh_command(), None);
    }

    #[test]
    fn host_and_user_cannot_become_options_or_shell_text() {
        for authority in [
            // CVE-2025-14946, plain and encoded.
            "-oProxyCommand=touch%20/tmp/pwned",
            "-oProxyCommand=id",
            "%2DoProxyCommand=id",
            "-v",
            "-",
            "u@-v",
            "-oProxyCommand=id@h",
            "%2Dv@h",
            // CVE-2023-51385: a ProxyCommand with %h or %r.
            "$(id)",
            "%60id%60",
            "h;id",
            "h%0Aid",
            "h%20id",
            "h&id",
            "h%7Cid",
            "h'id",
            "$(id)@h",
            "u;id@h",
            "u%20v@h",
            "u%0A@h",
            "%60id%60@h",
            "u'@h",
            // Other forms of destination.
            "ssh%3A%2F%2Fother",
            "u%40other",
            "h%25h",
            "[fe80::1%25$(id)]",
            "[fe80::1%25%24%28id%29]",
            "[fe80::1%25%0A]",
            "",
            "u@",
            "h%C3%A4",
        ] {
            let uri = format!("nbd+ssh://{authority}/");
            assert!(uri.parse::<Uri>().is_err(), "{uri}");
        }
        // A program that makes the URI of a host name it was given.
        let remote = SshRemote::Tcp { port: 1 };
        assert!(over_ssh("-oProxyCommand=id", remote).is_err());
    }

    #[test]
    fn ports_and_paths_for_ssh_are_checked() {
        for query in [
            "nbd-port=0",
            "nbd-port=65536",
            "nbd-port=1;id",
            "nbd-port=1%3Bid",
            "nbd-port=-1",
            "nbd-port=1%20",
            "socket=/s&nbd-port=1",
            "socket=",
            "socket=%00abstract",
            "socket=/a%00b",
            "socket=/a%0Ab",
            "socket=/a%7F",
            "compress=-C",
        ] {
            let uri = format!("nbd+ssh://h/?{query}");
            assert!(uri.parse::<Uri>().is_err(), "{uri}");
        }
    }

    #[test]
    fn path_that_starts_with_a_dash_is_no_option_of_nc() {
        let command = command("nbd+ssh://h/?socket=-e/bin/sh");
        assert_eq!(command.last().expect("one"), "nc -U ./'-e/bin/sh'");
    }

    #[test]
    fn special_characters_of_csh_and_fish_stand_outside_of_the_quotes() {
        let quote = |text: &str| quoted(OsStr::new(text)).into_string().expect("UTF-8");
        // csh would replace !# by the command so far, which contains a closing quote.
        assert_eq!(quote(";id;!#"), r"';id;'\!'#'");
        // fish would take \' for a quote that does not end the text.
        assert_eq!(quote(r"\';id;'"), r"''\\''\'';id;'\'''");
    }

    /// What a shell makes of the remote command: the arguments `nc` gets.
    fn arguments(remote: &OsStr) -> Vec<u8> {
        let mut script = OsString::from(r#"nc() { for a; do printf '%s\000' "$a"; done; }; "#);
        script.push(remote);
        let output = Command::new("sh").arg("-c").arg(script).output();
        output.expect("there is a shell").stdout
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn shell_hands_nc_exactly_the_path(
            bytes in proptest::collection::vec(
                prop_oneof![
                    proptest::sample::select(br#"'"\!$`;&|<>()[]{}*?~#= -^%"#.as_slice()),
                    0x20u8..0x7f,
                    0x80u8..,
                ],
                1..40,
            ),
        ) {
            let path = PathBuf::from(OsString::from_vec(bytes.clone()));
            let uri = over_ssh("h", SshRemote::Unix { path }).expect("valid");
            let command = uri.ssh_command().expect("an ssh URI");
            prop_assert_eq!(&command[..4], &["ssh", "-T", "--", "h"].map(OsString::from));
            prop_assert_eq!(command.len(), 5);
            let mut expected = b"-U\0".to_vec();
            if bytes[0] == b'-' {
                expected.extend(b"./");
            }
            expected.extend(&bytes);
            expected.push(0);
            prop_assert_eq!(arguments(&command[4]), expected);
        }
    }
}
