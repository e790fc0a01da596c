//! `builtin:fetchurl`: a file from the network (or the machine), whose hash is known.

use super::{Context, failure, io_failure};
use crate::build::settings::BuildSettings;
use crate::content_address::ContentAddressMethod;
use crate::derivation::{DerivationKind, DerivationOutput};
use crate::error::{Error, ErrorKind, Result};
use crate::events::{Activity, ActivityKind, Level};
use crate::hash::HashFormat;
use crate::local::{Metadata, percent_decode, restore_nar};
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{Read, Write};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;
use ureq::tls::{PemItem, RootCerts, TlsConfig};

/// How often a server that is busy or fails is asked.
const ATTEMPTS: u32 = 5;

/// Files that the caller may read, and the user that builds need not.
pub(super) struct Secrets {
    netrc: Option<String>,
    certificates: Option<std::io::Result<Vec<u8>>>,
}

impl Secrets {
    /// Reads what the settings name.
    pub(super) fn read(settings: &BuildSettings) -> Secrets {
        let netrc = settings.netrc_file.as_ref();
        Secrets {
            netrc: netrc.and_then(|file| fs::read_to_string(file).ok()),
            certificates: settings.ssl_cert_file.as_ref().map(fs::read),
        }
    }
}

pub(super) fn run(context: &mut Context<'_>) -> Result<()> {
    let build = context.build;
    let Some(output) = build.drv.outputs.get("out") else {
        return Err(failure("'builtin:fetchurl' requires an 'out' output"));
    };
    if !matches!(build.kind, DerivationKind::CaFixed | DerivationKind::Impure) {
        return Err(failure(
            "'builtin:fetchurl' must be a fixed-output or impure derivation",
        ));
    }
    let url = String::from_utf8_lossy(&context.attribute("url")?).into_owned();
    let xz = url.ends_with(".xz");
    if let DerivationOutput::CaFixed(content) = output
        && content.method == ContentAddressMethod::Flat
    {
        for mirror in &build.shared.settings.hashed_mirrors {
            let mirror = format!(
                "{}/{}/{}",
                mirror.trim_end_matches('/'),
                content.hash.algorithm(),
                content.hash.encode(HashFormat::Base16)
            );
            match fetch(context, &mirror, xz) {
                Ok(()) => return Ok(()),
                Err(e) if e.kind() == ErrorKind::Cancelled => return Err(e),
                Err(e) => build.shared.observer.message(Level::Debug, e.message()),
            }
        }
    }
    fetch(context, &url, xz)
}

fn flag(context: &Context<'_>, name: &str) -> bool {
    context.find(name).is_some_and(|value| value == b"1")
}

fn fetch(context: &mut Context<'_>, url: &str, xz: bool) -> Result<()> {
    let out = context.out()?;
    if super::super::tree::exists(&out) {
        // The rest of an attempt with a mirror.
        crate::local::delete(&out)?;
    }
    let unpack = flag(context, "unpack");
    let executable = flag(context, "executable");
    let activity = Activity::start(
        &context.build.shared.observer,
        context.lines.activity_id(),
        Level::Talkative,
        ActivityKind::FileTransfer,
        format!("downloading '{url}'"),
        vec![url.into()],
    );
    let (body, expected) = open(context, url)?;
    let reader = Progress {
        inner: body,
        context,
        activity,
        expected,
        done: 0,
        told: 0,
    };
    if unpack {
        let reader: Box<dyn Read> = match xz {
            true => Box::new(liblzma::read::XzDecoder::new_multi_decoder(reader)),
            false => Box::new(reader),
        };
        restore_nar(reader, &out, Metadata::Canonical)?;
    } else {
        save(reader, &out, url)?;
    }
    if executable {
        fs::set_permissions(&out, Permissions::from_mode(0o755))
            .map_err(io_failure("setting permissions of", &out))?;
    }
    Ok(())
}

fn save(mut reader: impl Read, out: &Path, url: &str) -> Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o644)
        .open(out)
        .map_err(io_failure("creating", out))?;
    let mut buffer = vec![0; 1 << 16];
    loop {
        let n = match reader.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(n) => n,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(cannot_download(url, e)),
        };
        file.write_all(buffer.get(..n).unwrap_or(&[]))
            .map_err(io_failure("writing", out))?;
    }
}

fn cannot_download(url: &str, why: impl std::fmt::Display) -> Error {
    failure(format!("unable to download '{url}': {why}"))
}

type Body = (Box<dyn Read>, Option<u64>);

/// Opens what a URL names.
fn open(context: &mut Context<'_>, url: &str) -> Result<Body> {
    if let Some(path) = url.strip_prefix("file://") {
        let path = PathBuf::from(OsString::from_vec(percent_decode(path)));
        let file = File::open(&path)
            .map_err(|_| cannot_download(url, format!("Could not open file {}", path.display())))?;
        let len = file.metadata().ok().map(|meta| meta.len());
        return Ok((Box::new(file), len));
    }
    if !(url.starts_with("http://") || url.starts_with("https://")) {
        return Err(cannot_download(url, "unsupported kind of URL"));
    }
    let agent = agent(context)?;
    let mut attempt = 0;
    loop {
        attempt += 1;
        context.check_cancelled()?;
        let mut request = agent.get(url).header("Accept-Encoding", "identity");
        if let Some(secret) = credentials(context, url) {
            request = request.header("Authorization", secret);
        }
        let (why, passing) = match request.call() {
            Ok(response) => {
                let len = response.body().content_length();
                return Ok((Box::new(response.into_body().into_reader()), len));
            }
            Err(ureq::Error::StatusCode(code)) => (
                format!("HTTP error {code}"),
                matches!(code, 408 | 429 | 500 | 502 | 503 | 504),
            ),
            Err(e) => {
                let passing = matches!(
                    e,
                    ureq::Error::Io(_) | ureq::Error::Timeout(_) | ureq::Error::ConnectionFailed
                );
                (e.to_string(), passing)
            }
        };
        if !passing || attempt >= ATTEMPTS {
            return Err(cannot_download(url, why));
        }
        let pause = Duration::from_millis(250 << (attempt - 1));
        context.warn(format!(
            "error: unable to download '{url}': {why}; retrying in {} ms",
            pause.as_millis()
        ));
        // Ends early when somebody wants to stop.
        context.build.shared.cancel.wait(pause);
    }
}

fn agent(context: &Context<'_>) -> Result<ureq::Agent> {
    let settings = &context.build.shared.settings;
    let mut config = ureq::Agent::config_builder()
        .user_agent(concat!("nivis/", env!("CARGO_PKG_VERSION")))
        .timeout_connect(Some(Duration::from_secs(15)))
        .timeout_recv_response(Some(Duration::from_secs(300)))
        .max_redirects(10);
    if let (Some(file), Some(pem)) = (&settings.ssl_cert_file, &context.secrets.certificates) {
        let pem = pem.as_ref().map_err(|e| {
            failure(format!(
                "reading '{}': {}",
                file.display(),
                super::super::os_message(e)
            ))
        })?;
        let certificates: Vec<_> = ureq::tls::parse_pem(pem)
            .filter_map(|item| match item {
                Ok(PemItem::Certificate(certificate)) => Some(certificate),
                _ => None,
            })
            .collect();
        config = config.tls_config(
            TlsConfig::builder()
                .root_certs(RootCerts::from(certificates))
                .build(),
        );
    } else {
        config = config.tls_config(
            TlsConfig::builder()
                .root_certs(RootCerts::PlatformVerifier)
                .build(),
        );
    }
    Ok(config.build().into())
}

/// What `netrc-file` has for the host of a URL, as the value of a header.
fn credentials(context: &Context<'_>, url: &str) -> Option<String> {
    let text = context.secrets.netrc.as_ref()?;
    let host = url.split_once("://")?.1;
    let host = host.split(['/', '?', '#']).next()?;
    let host = host.rsplit('@').next()?.split(':').next()?;
    let (login, password) = netrc(text, host)?;
    let secret = data_encoding::BASE64.encode(format!("{login}:{password}").as_bytes());
    Some(format!("Basic {secret}"))
}

/// The first entry of a netrc file that fits a host.
fn netrc(text: &str, host: &str) -> Option<(String, String)> {
    let mut words = text.split_whitespace();
    let mut fits = false;
    let (mut login, mut password) = (None, None);
    while let Some(word) = words.next() {
        match word {
            "machine" | "default" => {
                if fits && password.is_some() {
                    break;
                }
                fits = word == "default" || words.next() == Some(host);
                (login, password) = (None, None);
            }
            "login" if fits => login = words.next(),
            "password" if fits => password = words.next(),
            _ => {}
        }
    }
    match fits {
        true => Some((login.unwrap_or_default().to_owned(), password?.to_owned())),
        false => None,
    }
}

/// Tells how far a download is, and ends it when somebody wants to stop.
struct Progress<'p, 'c> {
    inner: Box<dyn Read>,
    context: &'p Context<'c>,
    activity: Activity,
    expected: Option<u64>,
    done: u64,
    told: u64,
}

impl Read for Progress<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.context
            .check_cancelled()
            .map_err(|e| std::io::Error::other(e.message().to_owned()))?;
        let n = self.inner.read(buffer)?;
        self.done += n as u64;
        if self.done - self.told > 1 << 18 || n == 0 {
            self.told = self.done;
            self.activity
                .progress(self.done, self.expected.unwrap_or(0), 0, 0);
        }
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn netrc_entries() {
        let text = "machine a login x password y\nmachine b password z default login d password e";
        assert_eq!(netrc(text, "a"), Some(("x".into(), "y".into())));
        assert_eq!(netrc(text, "b"), Some(("".into(), "z".into())));
        assert_eq!(netrc(text, "c"), Some(("d".into(), "e".into())));
        assert_eq!(netrc("machine a login x", "a"), None);
    }

    proptest! {
        #[test]
        fn any_netrc_is_an_answer(text in "(machine|default|login|password|a|b|\\s){0,12}") {
            if let Some((login, password)) = netrc(&text, "a") {
                prop_assert!(text.contains(&login) && text.contains(&password));
            }
        }
    }
}
