//! Addresses of peers over HTTP, checked before anything runs.

use std::net::Ipv6Addr;

/// What is wrong with an address, and what to write instead.
pub type BadAddress = (&'static str, &'static str);

const HELP: &str = "write http:// or https://, a host, and what else it takes: http://host:9093";

/// Checks that a text is an `http` or `https` URI (RFC 3986) with a host, without user and fragment. None of the texts holds
/// a part of the address, which may be a secret.
pub fn check_address(text: &str) -> Result<(), BadAddress> {
    if text.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err(("the address holds a blank or a control character", "remove it, or write a blank as %20"));
    }
    let is_literal =
        |c: char| c.is_ascii_graphic() && !matches!(c, '"' | '<' | '>' | '\\' | '^' | '`' | '{' | '|' | '}');
    if !text.chars().all(is_literal) {
        let help = "write such a character in the path as %XX, byte by byte, and a host in its ASCII form";
        return Err(("the address holds a character that a URI cannot", help));
    }
    let is_hex = |text: &str| text.get(..2).is_some_and(|hex| hex.bytes().all(|byte| byte.is_ascii_hexdigit()));
    if text.split('%').skip(1).any(|after| !is_hex(after)) {
        return Err(("the address holds a % without two hexadecimal digits behind it", "write a percent sign as %25"));
    }
    let scheme = ["http://", "https://"]
        .into_iter()
        .find(|scheme| text.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme)));
    let Some(rest) = scheme.and_then(|scheme| text.get(scheme.len()..)) else {
        return Err(match text.split_once("://") {
            Some(_) => ("the address has neither http:// nor https://", HELP),
            None => ("the address has no http:// or https:// in front of it", HELP),
        });
    };
    if rest.contains('#') {
        return Err(("the address has a fragment, which is never sent", "remove the part that begins with #"));
    }
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    if authority.contains('@') {
        return Err(("the address holds a user", "remove it, and give name and password by the options for them"));
    }
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((host, port)) if host.parse::<Ipv6Addr>().is_ok() => (host, port.strip_prefix(':').or(no_port(port))),
            _ => {
                return Err((
                    "the address holds no IPv6 address in its brackets",
                    "write for example http://[::1]:9093",
                ));
            }
        },
        None => match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, Some("80")),
        },
    };
    let is_in_host = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_' | '~' | ':' | '%');
    if host.is_empty() {
        return Err(("the address has no host", HELP));
    }
    if !host.chars().all(is_in_host) {
        return Err(("the host of the address holds a character that no host has", HELP));
    }
    match port.map(str::parse::<u16>) {
        Some(Ok(1..)) => Ok(()),
        _ => {
            Err(("the port of the address is no number from 1 to 65535", "write it behind the host: http://host:9093"))
        }
    }
}

/// Nothing stands behind the brackets.
fn no_port(rest: &str) -> Option<&'static str> {
    rest.is_empty().then_some("80")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_is_no_http_uri_is_refused_with_its_reason() {
        for right in [
            "http://a",
            "HTTPS://a.example:9093/p/%D0%B0?x=1&y=[z]",
            "http://127.0.0.1:1/",
            "http://[::1]:9093/a:b@c",
            "http://[::1]",
            "http://a_b-c.svc.cluster.local?token=x",
        ] {
            assert_eq!(check_address(right), Ok(()), "{right}");
        }
        for (wrong, why) in [
            ("", "no http://"),
            ("am", "no http://"),
            ("am:9093", "no http://"),
            ("/api", "no http://"),
            ("http:/am", "no http://"),
            ("ftp://am", "neither"),
            ("unix:///a", "neither"),
            ("http://", "no host"),
            ("http:///path", "no host"),
            ("http://:9093", "no host"),
            ("http://?a", "no host"),
            ("http://a b", "blank"),
            ("http://a/b c", "blank"),
            ("http://a/\n", "blank"),
            (" http://a", "blank"),
            ("http://a\u{0}", "blank"),
            ("http://h\u{f6}st", "cannot"),
            ("http://a/\u{430}", "cannot"),
            ("http://a/{{ .x }}", "blank"),
            ("http://a/{x}", "cannot"),
            ("http://a/%zz", "two hexadecimal"),
            ("http://a/%4", "two hexadecimal"),
            ("http://a#b", "fragment"),
            ("http://user:pass@am", "user"),
            ("http://user@am:80/", "user"),
            ("http://a:", "port"),
            ("http://a:0", "port"),
            ("http://a:65536", "port"),
            ("http://a:99999", "port"),
            ("http://a:80:80", "port"),
            ("http://a:http", "port"),
            ("http://a:-1", "port"),
            ("http://a,http://b", "no host has"),
            ("http://a$b", "no host has"),
            ("http://[::1", "brackets"),
            ("http://[zz]:1", "brackets"),
            ("http://[::1]9", "port"),
        ] {
            let (what, help) = check_address(wrong).unwrap_err();
            assert!(what.contains(why) && !help.is_empty(), "{wrong}: {what}");
        }
    }
}
