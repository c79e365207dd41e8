//! `coffer audit`: the journal of everything that was done, shown, written to a file and checked.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use audit::{Fault, SignedHead, Verifier};
use base::Role;
use tonic::Streaming;
use tonic::transport::Channel;
use wire::v1::audit_operator_client::AuditOperatorClient;
use wire::v1::{AuditLines, AuditReadRequest};

use crate::cli::{Audit, AuditArgs, ClientArgs, Export, SandboxMode, Settings, TailAudit, Verify};
use crate::client::{Access, Client};
use crate::failure::{During, Exit, Failure, Outcome};
use crate::handover::Proof;
use crate::layout::{self, Layout};
use crate::supervise::Shown;
use crate::{environment, operator, terminal};

const LOOK: Duration = Duration::from_secs(1);
/// Records that are asked for at once.
const AT_ONCE: u32 = 1000;

/// Shows, exports or checks.
pub(crate) async fn run(args: Audit) -> Outcome {
    match args {
        Audit::Tail(args) => tail(args).await,
        Audit::Export(args) => export(args).await,
        Audit::Verify(args) => verify(args).await,
    }
}

/// Whom records are asked of.
enum Source {
    Owner {
        client: Box<AuditOperatorClient<Channel>>,
        product: u64,
    },
    Key(Box<Client>),
}

impl Source {
    async fn of(args: &AuditArgs) -> Outcome<Self> {
        let with_key =
            args.data.is_none() && (args.endpoint.is_some() || args.key_file.is_some() || environment::text("COFFER_ADMIN_KEY").is_some());
        if with_key {
            let client = ClientArgs {
                endpoint: args.endpoint.clone().or_else(|| environment::text("COFFER_ENDPOINT")),
                ca: args.ca.clone(),
                key_file: args.key_file.clone(),
                data: None,
            };
            return Ok(Self::Key(Box::new(Client::new(Access::managing(&client)?))));
        }
        let data = args.data.clone().unwrap_or_else(|| "coffer-data".into());
        let layout = Layout::at(&data)?;
        let product = match &args.product {
            Some(product) => operator::product(&layout, product).await?.number,
            None => 0,
        };
        let client = AuditOperatorClient::new(operator::channel(&layout, Role::Vault)).max_decoding_message_size(wire::MAX_MESSAGE);
        Ok(Self::Owner {
            client: Box::new(client),
            product,
        })
    }

    async fn some(&mut self, after: Option<u64>, last: u32) -> Outcome<Vec<String>> {
        match self {
            Self::Key(client) => client.audit(after, last).await,
            Self::Owner { client, product } => {
                let asked = AuditReadRequest {
                    product: *product,
                    after,
                    last,
                    ..AuditReadRequest::default()
                };
                let what = "could not read the audit journal";
                let stream = operator::ask(what, client.read(asked)).await?;
                let mut lines = Vec::new();
                each(what, stream, |line| {
                    lines.push(line.to_owned());
                    Ok(())
                })
                .await?;
                Ok(lines)
            }
        }
    }

    async fn all(&mut self, boundary: Option<u64>, line: impl FnMut(&str) -> Outcome) -> Outcome {
        match self {
            Self::Key(client) => client.audit_export(boundary, line).await,
            Self::Owner { client, product } => {
                let asked = AuditReadRequest {
                    product: *product,
                    whole: true,
                    boundaries: boundary.into_iter().collect(),
                    ..AuditReadRequest::default()
                };
                let what = "could not export the audit journal";
                let stream = operator::ask(what, client.read(asked)).await?;
                each(what, stream, line).await
            }
        }
    }
}

async fn each(what: &str, mut stream: Streaming<AuditLines>, mut line: impl FnMut(&str) -> Outcome) -> Outcome {
    while let Some(lines) = stream.message().await.map_err(|status| operator::failure(what, &status))? {
        for text in &lines.lines {
            line(text)?;
        }
    }
    Ok(())
}

async fn tail(args: TailAudit) -> Outcome {
    let mut from = Source::of(&args.from).await?;
    let mut lines = from.some(None, args.lines).await?;
    let mut after = 0;
    loop {
        for line in &lines {
            terminal::print(escaped(line))?;
            after = audit::Record::parse(line).map_or(after, |record| record.n);
        }
        if !args.follow {
            return Ok(());
        }
        if lines.len() < AT_ONCE as usize {
            tokio::time::sleep(LOOK).await;
        }
        lines = from.some(Some(after), AT_ONCE).await?;
    }
}

// A record of ours has nothing that a terminal would take for an order. What answers may not be ours.
fn escaped(line: &str) -> String {
    let shown = |c: char| {
        if c.is_control() {
            c.escape_default().to_string()
        } else {
            c.to_string()
        }
    };
    line.chars().map(shown).collect()
}

async fn export(args: Export) -> Outcome {
    let boundary = match &args.head {
        Some(path) => Some(kept(path)?.head.size),
        None => None,
    };
    let mut from = Source::of(&args.from).await?;
    let what = format!("could not write {}", args.out.display());
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&args.out);
    let mut out = BufWriter::new(file.during(what.as_str())?);
    let written = from.all(boundary, |line| writeln!(out, "{line}").during(what.as_str())).await;
    let written = match written {
        Ok(()) => out.flush().and_then(|()| out.get_ref().sync_all()).during(what.as_str()),
        Err(failure) => Err(failure),
    };
    if let Err(failure) = written {
        // Half an export would be taken for one with its end missing.
        let _ = std::fs::remove_file(&args.out);
        return Err(failure);
    }
    terminal::say(format_args!(
        "wrote {}; `coffer audit verify` checks it, and so does docs/audit/verify.py",
        args.out.display()
    ));
    Ok(())
}

/// The head in a file: the last line of an export, or a file of that line alone.
fn kept(path: &Path) -> Outcome<SignedHead> {
    let what = format!("could not read a head from {}", path.display());
    let mut last = String::new();
    for line in lines_of(path, &what)? {
        last = line.during(what.as_str())?;
    }
    SignedHead::parse(&last)
        .ok_or_else(|| Failure::new(Exit::Refused, what).why("its last line is not a head that vault and accounts signed"))
}

fn lines_of(path: &Path, what: &str) -> Outcome<impl Iterator<Item = std::io::Result<String>>> {
    Ok(BufReader::new(File::open(path).during(what)?).lines())
}

async fn verify(args: Verify) -> Outcome {
    let kept = args.head.iter().map(|path| kept(path)).collect::<Outcome<Vec<_>>>()?;
    let report = match (&args.file, &args.data) {
        (Some(file), _) => {
            let what = format!("could not read {}", file.display());
            let key = args.installation_key.as_deref().map(layout::installation_key_in).transpose()?;
            let known = key.is_some() || !kept.is_empty();
            let mut verifier = Verifier::new(key, kept);
            for line in lines_of(file, &what)? {
                verifier.line(&line.during(what.as_str())?);
            }
            let report = verifier.finish();
            if let (true, false, Some(key)) = (report.faults.is_empty(), known, report.key) {
                return Err(Failure::new(Exit::Unverified, "the export holds in itself, and may be anybody's")
                    .why(format!(
                        "it is signed under the key {}, which nothing but itself says is the installation's",
                        hex::encode(key.as_bytes())
                    ))
                    .next(
                        "add --installation-key FILE, the installation.pub of its data directory, or --head FILE, an export that was checked before",
                    ));
            }
            report
        }
        (None, Some(data)) => {
            let layout = Layout::at(data)?;
            let key = layout::installation_key_in(&layout.installation_key())?;
            let settings = Settings {
                config: None,
                sandbox: None::<SandboxMode>,
            };
            // The vault's directory is looked at by a process of the vault: who may write there could lead anybody else elsewhere.
            let proving = super::proving::open(data, &settings)?;
            let heads = kept.iter().map(|head| head.to_line(&key)).collect();
            let heard = super::proving::heard(&proving, &[Role::Vault], (Proof::Audit(heads), None), Shown::default()).await?;
            let Some((records, _, root)) = heard.records else {
                return Err(Failure::new(Exit::Failed, "could not check the audit journal"));
            };
            return told(&heard.faults, records, "", &root);
        }
        (None, None) => return Err(Failure::new(Exit::Usage, "give an export, or --data")),
    };
    let of = match report.product {
        0 => String::new(),
        product => format!(" of product {product}, among {} in all", report.size),
    };
    let root = report.head.as_ref().map_or_else(String::new, |head| hex::encode(head.head.root));
    told(&report.faults, report.records, &of, &root)
}

fn told(faults: &[Fault], records: u64, of: &str, root: &str) -> Outcome {
    if faults.is_empty() {
        return terminal::print(format!(
            "everything holds: {records} records{of}, as vault and accounts signed for them, root {root}"
        ));
    }
    for fault in faults {
        terminal::print(fault)?;
    }
    Err(Failure::new(Exit::Unverified, "the audit journal does not hold").why(format!("{records} records{of} were read")))
}
