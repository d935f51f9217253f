//! Files with certificates and keys, checked before a TLS library reads them: what it refuses it does not explain.

use std::path::Path;

use base64::prelude::{BASE64_STANDARD, Engine};

use crate::error::{Error, ErrorKind, Result};
use crate::files;

fn failed(what: impl Into<String>, path: &Path) -> Error {
    Error::new(ErrorKind::Config, "prepare tls", what).with("file", path.display())
}

/// Reads a file and checks that it holds certificates (PEM), all of them of X.509 version 3.
///
/// A certificate of version 1 has no room for the names of hosts; `openssl x509 -req` makes one where it is given no
/// extensions.
pub fn check_certificates(path: &Path) -> Result<Vec<u8>> {
    let text = read(path)?;
    let all = blocks(&text, "CERTIFICATE");
    if all.is_empty() {
        let why = match text.contains("PRIVATE KEY-----") {
            true => "it holds a private key and no certificate; check the path",
            false => "it holds no certificates (PEM); check the path",
        };
        return Err(failed(why, path));
    }
    if let Some(number) = all.iter().position(|certificate| version(certificate) == Some(1)) {
        let of =
            if all.len() > 1 { format!("certificate {} of {} in it", number + 1, all.len()) } else { "it".to_owned() };
        return Err(failed(
            format!(
                "{of} is a certificate of X.509 version 1, which TLS libraries refuse; issue it again as version 3, with a file of \
                 extensions: openssl x509 -req -in host.csr -CA ca.pem -CAkey ca.key -extfile extensions -out host.pem"
            ),
            path,
        ));
    }
    Ok(text.into_bytes())
}

/// Reads a file and checks that it holds a private key (PEM) that is not encrypted.
pub fn check_private_key(path: &Path) -> Result<Vec<u8>> {
    let text = read(path)?;
    if is_encrypted(&text) {
        let what = "its private key is encrypted, and there is no option for its password; decrypt it, and let nobody else read \
                    the file: openssl pkey -in encrypted.key -out plain.key";
        return Err(failed(what, path));
    }
    match ["PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY"].iter().any(|label| !blocks(&text, label).is_empty()) {
        true => Ok(text.into_bytes()),
        false => Err(failed("it holds no private key (PEM); check the path", path)),
    }
}

/// Whether a file holds a private key that is encrypted.
pub fn holds_encrypted_key(path: &Path) -> bool {
    read(path).is_ok_and(|text| is_encrypted(&text))
}

/// PKCS #8 has a label of its own, the older formats a header (RFC 1421).
fn is_encrypted(text: &str) -> bool {
    text.contains("-----BEGIN ENCRYPTED PRIVATE KEY-----")
        || text.lines().any(|line| line.starts_with("Proc-Type:") && line.contains("ENCRYPTED"))
}

fn read(path: &Path) -> Result<String> {
    let bytes = files::read(path, files::LARGEST)
        .map_err(|error| failed("it cannot be read; check the path and its rights", path).caused_by(error))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The blocks with a label; one that is not base64 is empty.
fn blocks(text: &str, label: &str) -> Vec<Vec<u8>> {
    let (begin, end) = (format!("-----BEGIN {label}-----"), format!("-----END {label}-----"));
    let mut all = Vec::new();
    let mut rest = text;
    while let Some((_, behind)) = rest.split_once(&begin) {
        let Some((body, behind)) = behind.split_once(&end) else { break };
        let body: String = body.chars().filter(|c| !c.is_whitespace()).collect();
        all.push(BASE64_STANDARD.decode(body).unwrap_or_default());
        rest = behind;
    }
    all
}

/// The version of a certificate (RFC 5280, 4.1): it stands first in what is signed, and is left out in version 1.
fn version(certificate: &[u8]) -> Option<u8> {
    const SEQUENCE: u8 = 0x30;
    const VERSION: u8 = 0xa0;
    let signed = content(content(certificate, SEQUENCE)?, SEQUENCE)?;
    match signed.first()? {
        &VERSION => content(content(signed, VERSION)?, 0x02)?.first().map(|version| version + 1),
        _ => Some(1),
    }
}

/// What is in the element of DER that begins here, if it has this tag.
fn content(bytes: &[u8], tag: u8) -> Option<&[u8]> {
    let (found, rest) = bytes.split_first()?;
    let (first, rest) = rest.split_first()?;
    let more = match first {
        0..0x80 => 0,
        first => usize::from(first & 0x7f),
    };
    (*found == tag).then(|| rest.get(more..)).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file with a block of these bytes.
    fn pem(dir: &Path, label: &str, bytes: &[u8]) -> std::path::PathBuf {
        let path = dir.join("file.pem");
        let text = BASE64_STANDARD.encode(bytes);
        std::fs::write(&path, format!("about it\n-----BEGIN {label}-----\n{text}\n-----END {label}-----\n")).unwrap();
        path
    }

    /// The beginning of a certificate: the outer sequence, what is signed, and its first element.
    fn certificate(first: &[u8]) -> Vec<u8> {
        [&[0x30, 0x82, 1, 0, 0x30, 0x81, 0xf0], first, &[0x02, 0x01, 0x07]].concat()
    }

    #[test]
    fn certificates_of_version_1_and_encrypted_keys_are_told_apart_from_other_faults() {
        let dir = tempfile::tempdir().unwrap();
        let refused = |path: &Path| check_certificates(path).unwrap_err().to_string();
        let old = refused(&pem(dir.path(), "CERTIFICATE", &certificate(&[])));
        assert!(old.contains("X.509 version 1") && old.contains("openssl x509") && old.contains("file.pem"), "{old}");
        for version in [1, 2] {
            let path = pem(dir.path(), "CERTIFICATE", &certificate(&[0xa0, 3, 2, 1, version]));
            assert!(check_certificates(&path).is_ok());
        }
        assert!(refused(&pem(dir.path(), "PRIVATE KEY", &[1])).contains("a private key and no certificate"));
        assert!(refused(&pem(dir.path(), "OTHER", &[1])).contains("no certificates"));
        assert!(refused(&dir.path().join("nowhere")).contains("cannot be read"));

        let refused = |path: &Path| check_private_key(path).unwrap_err().to_string();
        let encrypted = pem(dir.path(), "ENCRYPTED PRIVATE KEY", &[1]);
        assert!(holds_encrypted_key(&encrypted));
        assert!(refused(&encrypted).contains("openssl pkey"));
        let old = dir.path().join("old.key");
        let header = "Proc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\n";
        std::fs::write(&old, format!("-----BEGIN RSA PRIVATE KEY-----\n{header}AA==\n-----END RSA PRIVATE KEY-----\n"))
            .unwrap();
        assert!(refused(&old).contains("encrypted"));
        for label in ["PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY"] {
            let path = pem(dir.path(), label, &[1]);
            assert!(check_private_key(&path).is_ok() && !holds_encrypted_key(&path));
        }
        assert!(refused(&pem(dir.path(), "CERTIFICATE", &[1])).contains("no private key"));
    }

    #[test]
    fn torn_certificates_have_no_version() {
        let whole = certificate(&[0xa0, 3, 2, 1, 2]);
        for end in 0..12 {
            assert_eq!(version(&whole[..end]), None, "{end}");
        }
        assert_eq!(version(&whole), Some(3));
        assert_eq!(version(&[0x30, 0xff, 1]), None);
    }
}
