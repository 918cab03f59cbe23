//! Authorization: bearer tokens with roles.

use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};

use crate::access::error::{ApiError, ErrorKind};

/// The permissions of a caller. No role includes another, except that `read` includes `metrics`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Submit events.
    Ingest,
    /// Retract events, also those that others have submitted.
    Retract,
    /// Query, and read the metrics.
    Read,
    /// Read the metrics and the status.
    Metrics,
    /// Reload, roll back, take snapshots, drain, expire, promote.
    Admin,
}

impl Role {
    fn bit(self) -> u8 {
        1 << self as u8
    }

    /// The roles that allow what this role allows.
    fn allowing(self) -> u8 {
        self.bit() | if self == Role::Metrics { Role::Read.bit() } else { 0 }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Role::Ingest => "ingest",
            Role::Retract => "retract",
            Role::Metrics => "metrics",
            Role::Read => "read",
            Role::Admin => "admin",
        }
    }
}

/// The section `auth` of a server's settings.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AuthSpec {
    /// The roles of a caller without a token. Left out, all but `admin` if there are no tokens, and none if there are.
    /// `admin` is not allowed here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub anonymous: Option<Vec<Role>>,
    /// Tokens.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tokens: Vec<TokenSpec>,
}

/// A token: its name, its roles, and exactly one of `sha256`, `env` and `file`. So a spec does not have to contain a
/// secret.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenSpec {
    /// The holder's name in logs. It is also the tenant in the scheduler.
    pub name: String,
    /// The holder's roles.
    pub roles: Vec<Role>,
    /// SHA-256 of the token, in hex: `printf %s TOKEN | sha256sum`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// An environment variable that holds the token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub env: Option<String>,
    /// A file that holds the token; white space around it is ignored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
}

/// The roles of every caller where there are no tokens.
const ANYONE: [Role; 4] = [Role::Ingest, Role::Retract, Role::Read, Role::Metrics];

/// Shortest allowed token, in bytes.
const SHORTEST: usize = 16;

impl AuthSpec {
    /// # Errors
    /// A sentence naming the key and its value.
    pub(crate) fn check(&self) -> Result<(), String> {
        if self.anonymous.as_ref().is_some_and(|roles| roles.contains(&Role::Admin)) {
            return Err("auth.anonymous names `admin`, which always needs a token".into());
        }
        for (i, token) in self.tokens.iter().enumerate() {
            let place = format!("auth.tokens[{i}] (`{}`)", token.name);
            if token.name.is_empty() {
                return Err(format!("auth.tokens[{i}].name is empty"));
            }
            if self.tokens[..i].iter().any(|other| other.name == token.name) {
                return Err(format!("{place}: another token has that name"));
            }
            if token.roles.is_empty() {
                return Err(format!(
                    "{place}: roles is empty; it may be \"ingest\", \"retract\", \"read\", \"metrics\" and \"admin\""
                ));
            }
            let given = [token.sha256.is_some(), token.env.is_some(), token.file.is_some()];
            if given.iter().filter(|given| **given).count() != 1 {
                return Err(format!("{place}: give exactly one of sha256, env and file"));
            }
        }
        Ok(())
    }
}

/// The caller of a request.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    /// Name of the token, if there is one.
    pub name: Option<Arc<str>>,
    roles: u8,
}

impl Caller {
    /// # Errors
    /// 401 for a caller without a token, 403 for a token without the role.
    pub fn require_role(&self, role: Role) -> Result<(), ApiError> {
        match (self.roles & role.allowing() != 0, &self.name) {
            (true, _) => Ok(()),
            (false, None) => Err(ApiError::new(
                ErrorKind::Unauthenticated,
                format!("this needs a bearer token with the role `{}`", role.name()),
            )),
            (false, Some(name)) => Err(ApiError::new(
                ErrorKind::Forbidden,
                format!("the token `{name}` does not have the role `{}`", role.name()),
            )),
        }
    }
}

#[derive(Debug)]
struct Token {
    name: Arc<str>,
    digest: [u8; 32],
    roles: u8,
}

/// Finds the caller of a token.
#[derive(Debug)]
pub(crate) struct Authenticator {
    anonymous: u8,
    tokens: Vec<Token>,
}

impl Authenticator {
    /// Reads the tokens from the sources that the spec names.
    ///
    /// # Errors
    /// A sentence naming the token's name and the fault, without the token itself.
    pub fn open(spec: &AuthSpec) -> Result<Authenticator, String> {
        spec.check()?;
        let tokens = spec.tokens.iter().map(Token::read).collect::<Result<Vec<_>, _>>()?;
        let by_default = if tokens.is_empty() { ANYONE.to_vec() } else { Vec::new() };
        Ok(Authenticator { anonymous: bits(spec.anonymous.as_ref().unwrap_or(&by_default)), tokens })
    }

    /// Whether callers without a token may submit events or query.
    pub fn is_open(&self) -> bool {
        self.anonymous != 0
    }

    /// The caller, from the value of the header `authorization`. The time is the same for every token.
    ///
    /// # Errors
    /// A header that is not `Bearer TOKEN`, or an unknown token.
    pub fn caller(&self, authorization: Option<&[u8]>) -> Result<Caller, ApiError> {
        let Some(value) = authorization else { return Ok(Caller { name: None, roles: self.anonymous }) };
        let refuse = |fact| Err(ApiError::new(ErrorKind::Unauthenticated, fact));
        let Some(shown) = value
            .split_at_checked(7)
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case(b"bearer "))
            .map(|(_, token)| token)
        else {
            return refuse("the header `authorization` is not `Bearer TOKEN`");
        };
        let digest: [u8; 32] = Sha256::digest(shown.trim_ascii()).into();
        let mut found = None;
        for token in &self.tokens {
            let same: Choice = token.digest.ct_eq(&digest);
            if bool::from(same) {
                found = Some(token);
            }
        }
        match found {
            Some(token) => Ok(Caller { name: Some(token.name.clone()), roles: token.roles | self.anonymous }),
            None => refuse("nobody knows this bearer token"),
        }
    }
}

impl Token {
    fn read(spec: &TokenSpec) -> Result<Token, String> {
        let place = format!("auth.tokens `{}`", spec.name);
        let digest = match (&spec.sha256, &spec.env, &spec.file) {
            (Some(hex), _, _) => {
                from_hex(hex).ok_or_else(|| format!("{place}: sha256 is not 64 hexadecimal digits"))?
            }
            (_, Some(variable), _) => {
                let secret = std::env::var(variable).map_err(|error| format!("{place}: env `{variable}`: {error}"))?;
                digest_of(&secret, &format!("{place}: env `{variable}`"))?
            }
            (_, _, Some(file)) => {
                let read = std::fs::read_to_string(file)
                    .map_err(|error| format!("{place}: file {}: {error}", file.display()))?;
                digest_of(&read, &format!("{place}: file {}", file.display()))?
            }
            (None, None, None) => return Err(format!("{place}: give exactly one of sha256, env and file")),
        };
        Ok(Token { name: spec.name.as_str().into(), digest, roles: bits(&spec.roles) })
    }
}

fn digest_of(secret: &str, place: &str) -> Result<[u8; 32], String> {
    let secret = secret.trim();
    if secret.len() < SHORTEST {
        return Err(format!("{place}: the token has {} bytes; it needs at least {SHORTEST}", secret.len()));
    }
    Ok(Sha256::digest(secret).into())
}

fn from_hex(hex: &str) -> Option<[u8; 32]> {
    let mut digest = [0; 32];
    if hex.len() != 64 || !hex.is_ascii() {
        return None;
    }
    for (byte, pair) in digest.iter_mut().zip(hex.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(digest)
}

fn bits(roles: &[Role]) -> u8 {
    roles.iter().fold(0, |bits, role| bits | role.bit())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "a-token-of-some-length";

    fn token(name: &str, roles: &[Role]) -> TokenSpec {
        let sha256 = Sha256::digest(SECRET.to_string() + name).iter().map(|byte| format!("{byte:02x}")).collect();
        TokenSpec { name: name.into(), roles: roles.to_vec(), sha256: Some(sha256), ..TokenSpec::default() }
    }

    fn shown(name: &str) -> Vec<u8> {
        format!("Bearer {SECRET}{name}").into_bytes()
    }

    #[test]
    fn without_tokens_anyone_may_ask_and_tell_and_nobody_may_administer() {
        let gate = Authenticator::open(&AuthSpec::default()).unwrap();
        let caller = gate.caller(None).unwrap();
        assert!(caller.require_role(Role::Read).is_ok() && caller.require_role(Role::Ingest).is_ok());
        assert_eq!(caller.require_role(Role::Admin).unwrap_err().kind, ErrorKind::Unauthenticated);
        assert!(gate.is_open());
    }

    #[test]
    fn a_token_opens_what_its_roles_name_and_nothing_else() {
        let tokens = vec![token("reader", &[Role::Read]), token("chief", &[Role::Admin])];
        let gate = Authenticator::open(&AuthSpec { tokens, ..AuthSpec::default() }).unwrap();
        for role in [Role::Read, Role::Ingest, Role::Admin] {
            assert_eq!(gate.caller(None).unwrap().require_role(role).unwrap_err().kind, ErrorKind::Unauthenticated);
        }
        let reader = gate.caller(Some(&shown("reader"))).unwrap();
        assert!(reader.require_role(Role::Read).is_ok());
        assert_eq!(reader.require_role(Role::Admin).unwrap_err().kind, ErrorKind::Forbidden);
        let chief = gate.caller(Some(&shown("chief"))).unwrap();
        assert!(chief.require_role(Role::Admin).is_ok() && chief.require_role(Role::Read).is_err());
        for wrong in [&shown("nobody")[..], b"Bearer ", b"Basic abc", b"", b"Bearer", &[0xff; 40]] {
            assert_eq!(gate.caller(Some(wrong)).unwrap_err().kind, ErrorKind::Unauthenticated);
        }
    }

    #[test]
    fn a_token_that_reads_may_read_the_metrics_and_one_for_metrics_may_read_nothing_else() {
        let tokens = vec![token("reader", &[Role::Read]), token("prometheus", &[Role::Metrics])];
        let gate = Authenticator::open(&AuthSpec { tokens, ..AuthSpec::default() }).unwrap();
        let may = |name: &str, role| gate.caller(Some(&shown(name))).unwrap().require_role(role).is_ok();
        assert!(may("reader", Role::Metrics) && may("reader", Role::Read));
        assert!(may("prometheus", Role::Metrics) && !may("prometheus", Role::Read));
    }

    #[test]
    fn secrets_are_read_from_files_and_the_environment_and_short_ones_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        std::fs::write(&file, format!("{SECRET}\n")).unwrap();
        let from_file = TokenSpec { file: Some(file.clone()), sha256: None, ..token("reader", &[Role::Read]) };
        let gate = Authenticator::open(&AuthSpec { tokens: vec![from_file.clone()], ..AuthSpec::default() }).unwrap();
        assert!(gate.caller(Some(&shown(""))).unwrap().require_role(Role::Read).is_ok());
        std::fs::write(&file, "short").unwrap();
        let error = Authenticator::open(&AuthSpec { tokens: vec![from_file], ..AuthSpec::default() }).unwrap_err();
        assert!(error.contains("has 5 bytes; it needs at least 16") && !error.contains("short"), "{error}");
        let missing = TokenSpec {
            env: Some("TEMPOGRAPH_NO_SUCH_VARIABLE".into()),
            sha256: None,
            ..token("reader", &[Role::Read])
        };
        let error = Authenticator::open(&AuthSpec { tokens: vec![missing], ..AuthSpec::default() }).unwrap_err();
        assert!(error.contains("env `TEMPOGRAPH_NO_SUCH_VARIABLE`"), "{error}");
    }

    #[test]
    fn settings_that_make_no_sense_are_named() {
        let reader = token("reader", &[Role::Read]);
        for (tokens, says) in [
            (vec![TokenSpec { sha256: Some("12".into()), ..reader.clone() }], "64 hexadecimal digits"),
            (vec![TokenSpec { env: Some("X".into()), ..reader.clone() }], "exactly one of"),
            (vec![TokenSpec { roles: vec![], ..reader.clone() }], "roles is empty"),
            (vec![reader.clone(), reader.clone()], "another token has that name"),
        ] {
            let error = Authenticator::open(&AuthSpec { tokens, ..AuthSpec::default() }).unwrap_err();
            assert!(error.contains(says), "{error}");
        }
        let error = Authenticator::open(&AuthSpec { anonymous: Some(vec![Role::Admin]), tokens: vec![] }).unwrap_err();
        assert!(error.contains("always needs a token"), "{error}");
    }
}
