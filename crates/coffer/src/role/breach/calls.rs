//! Attacks on the other roles, by calls under this role's own certificate: every method that there is, and passes that it makes itself.
//!
//! No body is one that a handler could act on: a caller that comes past the table and the pass is told that it cannot be read.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use base::{Clock, CredentialId, OsEntropy, ProductId, Role, Scope, SystemClock, Timestamp, Verb, Verbs};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use bytes::Bytes;
use edge::Peers;
use http_body_util::Full;
use rustls_pki_types::CertificateDer;
use seal::{Assertion, Grant, HolderId, InstallationKey, Pass, Signer};
use tonic::body::Body;
use tonic::client::GrpcService;
use tonic::transport::Channel;
use wire::PASS_HEADER;
use wire::calls::METHODS;

use super::Told;
use crate::breach::{Attempt, Came, Line};
use crate::failure::{During, Exit, Failure, Outcome};
use crate::handover::Handover;

const PATIENCE: Duration = Duration::from_secs(20);
/// A frame of one byte that begins no field of any message.
const UNREADABLE: &[u8] = &[0, 0, 0, 0, 1, 7];
const UNIMPLEMENTED: &str = "12";
const FORBIDDEN: &str = "7";
const UNAUTHENTICATED: &str = "16";

/// Tries every method at every other role.
pub(super) async fn attack(handover: &mut Handover, told: &mut Told) -> Outcome {
    let role = handover.role;
    let what = "the drill could not get the role's certificate";
    let missing = || Failure::new(Exit::Usage, what);
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let enrolment = handover.enrolment.take().ok_or_else(missing)?;
    let installation = InstallationKey::try_from(&enrolment.installation_key.0[..]).during(what)?;
    let vault = *handover.peers.get(&Role::Vault).ok_or_else(missing)?;
    let ca = CertificateDer::from(enrolment.ca_certificate.0);
    let token = enrolment.token.0;
    let enrolled = edge::enrol(
        vault,
        ca.clone(),
        installation,
        token.reveal(),
        role,
        Arc::new(OsEntropy),
        Arc::clone(&clock),
    )
    .await;
    let (tls, signer) = enrolled.map_err(|error| Failure::new(Exit::from(error.kind()), what).why(super::super::chain(&error)))?;
    for (name, token, wanted) in [
        ("the same token again", token.reveal().to_vec(), role),
        ("a token of its own making", vec![7; 32], role),
        ("its token for another role", token.reveal().to_vec(), other(role)),
    ] {
        let again = edge::enrol(
            vault,
            ca.clone(),
            installation,
            &token,
            wanted,
            Arc::new(OsEntropy),
            Arc::clone(&clock),
        )
        .await;
        let (came, says) = match again {
            Ok(_) => (Came::Got, "a certificate".to_owned()),
            Err(error) => (Came::Refused, super::super::chain(&error)),
        };
        told.said("certificates", "get another", name, came, says)?;
    }
    let holder = tls.holder_id();
    let peers = Peers::new(Arc::new(tls), handover.peers.clone());
    for to in handover.peers.keys().copied() {
        for attempt in at(to, &peers, holder, &signer).await? {
            told.line(&Line::Attempt(attempt))?;
        }
    }
    Ok(())
}

/// Tries every method at one other role, under the certificate that `peers` have; and each that is answered with passes that the caller makes itself.
pub(crate) async fn at(to: Role, peers: &Peers, holder: HolderId, signer: &Signer) -> Outcome<Vec<Attempt>> {
    let mut attempts = Vec::new();
    let mut note = |asset: String, act: &str, target: String, (came, says): (Came, String)| {
        attempts.push(Attempt {
            asset,
            act: act.to_owned(),
            target,
            came,
            says,
        });
    };
    let channel = peers.channel(to);
    for method in METHODS.iter().copied().chain(["/coffer.v1.Vault/Unheard"]) {
        let (came, says) = call(channel.clone(), method, None).await?;
        let asset = format!("call {}", method.trim_start_matches("/coffer.v1."));
        note(asset, "answered", to.to_string(), (came, says));
        if came != Came::Got {
            continue;
        }
        for (name, pass) in passes(to, holder, signer, &SystemClock)? {
            let (_, says) = call(channel.clone(), method, Some(&pass)).await?;
            let came = if says.starts_with(UNAUTHENTICATED) {
                Came::Refused
            } else {
                Came::Got
            };
            note("passes of its own making".into(), name, format!("{to} {method}"), (came, says));
        }
    }
    Ok(attempts)
}

fn other(role: Role) -> Role {
    if role == Role::Gateway { Role::Warehouse } else { Role::Gateway }
}

/// What a role can make that looks like a pass.
fn passes(to: Role, holder: HolderId, signer: &Signer, clock: &dyn Clock) -> Outcome<BTreeMap<&'static str, Vec<u8>>> {
    let now = clock.now();
    let product = ProductId::new(1).during("there is no product 1")?;
    let make = |audience, holder, issued_at, life| {
        let assertion = Assertion {
            credential: CredentialId::generate(now, &OsEntropy),
            product,
            audience,
            holder,
            issued_at,
            expires_at: issued_at.plus(life),
            id: [7; 16],
        };
        let signed = assertion.sign(signer);
        let grant = Grant::answering(&assertion, &signed, Verbs::of(&Verb::ALL), Scope::Product).sign(signer);
        Pass { assertion: signed, grant }.encode()
    };
    let minute = Duration::from_secs(60);
    let long_ago = Timestamp::from_micros(now.as_micros() - 3_600_000_000);
    Ok(BTreeMap::from([
        ("signed by itself", make(to, holder, now, minute)),
        ("for another role", make(other(to), holder, now, minute)),
        ("of another holder", make(to, HolderId::of_public_key(b"somebody"), now, minute)),
        ("long ended", make(to, holder, long_ago, minute)),
        ("no pass at all", vec![7; 64]),
    ]))
}

/// Makes one call and looks at the beginning of the answer: a gRPC code and its words.
async fn call(mut channel: Channel, method: &str, pass: Option<&[u8]>) -> Outcome<(Came, String)> {
    let what = "the drill could not make a call";
    let mut request = http::Request::post(method)
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    if let Some(pass) = pass {
        request = request.header(PASS_HEADER, STANDARD_NO_PAD.encode(pass));
    }
    let request = request.body(Body::new(Full::new(Bytes::from_static(UNREADABLE)))).during(what)?;
    let answering = async {
        std::future::poll_fn(|cx| GrpcService::<Body>::poll_ready(&mut channel, cx)).await?;
        GrpcService::<Body>::call(&mut channel, request).await
    };
    let Ok(answer) = tokio::time::timeout(PATIENCE, answering).await else {
        // It was neither refused nor answered: nothing that counts as a wall.
        return Ok((Came::Got, "no answer".into()));
    };
    let answer: Result<_, tonic::transport::Error> = answer;
    let answer = match answer {
        Ok(answer) => answer,
        Err(error) => return Ok((Came::Refused, format!("no connection: {}", super::super::chain(&error)))),
    };
    let header = |name: &str| {
        answer
            .headers()
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
            .to_owned()
    };
    let (code, words) = (header("grpc-status"), header("grpc-message").replace("%20", " "));
    let came = if code == FORBIDDEN && words == "this caller may not make this call" {
        Came::Refused
    } else if code == UNIMPLEMENTED {
        Came::Absent
    } else {
        Came::Got
    };
    Ok((came, format!("{code} {words}")))
}
