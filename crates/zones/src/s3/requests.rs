//! What a zone asks of its store, and what the answers mean.

use std::ops::Range;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode, header};
use tokio::time::Instant;

use super::Inner;
use super::answers;
use super::client::Ask;
use super::transport::{Answer, Trouble, Whole};
use crate::{ObjectName, ZoneError};

/// What is written to see whether anything can be written.
const PROBE: &str = "probe/written";

/// What there is under a name.
#[derive(Debug)]
pub(super) enum Got {
    Bytes(Bytes),
    /// The store works and says that there is nothing.
    Nothing,
    /// At least this long, and not read.
    Longer(u64),
    /// Something that is no object, in words.
    Odd(String),
}

impl Inner {
    /// One request. An error means that the store gave no answer; whatever it answers is an answer.
    pub(super) async fn send(&self, ask: Ask<'_>) -> Result<Answer, ZoneError> {
        let sent = self.client()?.send(ask).await;
        match sent {
            Ok(answer) => {
                self.late().answered(Instant::now());
                Ok(answer)
            }
            Err(trouble) => {
                self.ready.store(false, Ordering::SeqCst);
                Err(match trouble {
                    Trouble::NotSent(why) => self.down(why),
                    Trouble::Sent(why) => self.unclear(why),
                })
            }
        }
    }

    pub(super) async fn put(&self, name: &ObjectName, bytes: Bytes) -> Result<(), ZoneError> {
        self.write(name.as_str(), bytes, Some(name)).await
    }

    /// Writes what is no object.
    pub(super) async fn store(&self, name: &str, bytes: Bytes) -> Result<(), ZoneError> {
        self.write(name, bytes, None).await
    }

    /// Writes, over what is there.
    async fn write(&self, name: &str, bytes: Bytes, object: Option<&ObjectName>) -> Result<(), ZoneError> {
        let mut ask = Ask::new(Method::PUT, Some(name), self.parts.put_timeout);
        ask.body = bytes;
        let written = match self.send(ask).await {
            Ok(answer) if answer.status.is_success() => Ok(()),
            Ok(answer) => Err(self.refused(&answer)),
            Err(error) => {
                if let (Some(object), ZoneError::Unclear { .. }) = (object, &error) {
                    self.late().note(object, Instant::now());
                }
                Err(error)
            }
        };
        self.refuses.store(written.is_err(), Ordering::SeqCst);
        written
    }

    /// Shows a store that is full, or read-only to us. The same key each time, so nothing piles up.
    pub(super) async fn write_probe(&self) -> Result<(), ZoneError> {
        self.store(PROBE, Bytes::from_static(b"probe")).await
    }

    pub(super) async fn get(&self, name: &ObjectName, most: u64) -> Result<Bytes, ZoneError> {
        match self.fetch(name.as_str(), most, self.parts.read_timeout).await? {
            Got::Bytes(bytes) => Ok(bytes),
            Got::Nothing => Err(self.missing(name).await),
            Got::Longer(length) => Err(ZoneError::Long {
                zone: self.parts.name.clone(),
                name: name.clone(),
                length,
                most,
            }),
            Got::Odd(detail) => Err(self.wrong(name, detail)),
        }
    }

    /// The whole of what is there, if it is not more than `most` bytes.
    pub(super) async fn fetch(&self, name: &str, most: u64, within: Duration) -> Result<Got, ZoneError> {
        let mut ask = Ask::new(Method::GET, Some(name), within);
        ask.most = most;
        let answer = self.send(ask).await?;
        match (answer.status, answer.body) {
            (StatusCode::OK, Whole::Bytes(bytes)) => Ok(Got::Bytes(bytes)),
            (StatusCode::OK, Whole::Longer(length)) => Ok(Got::Longer(length)),
            (status, body) => self.not_got(Answer {
                status,
                headers: answer.headers,
                body,
            }),
        }
    }

    /// What another answer than the bytes says.
    fn not_got(&self, answer: Answer) -> Result<Got, ZoneError> {
        let code = code_of(&answer);
        match (answer.status, code.as_deref()) {
            (StatusCode::NOT_FOUND, None | Some("NoSuchKey" | "NotFound")) => Ok(Got::Nothing),
            (StatusCode::FORBIDDEN, Some("InvalidObjectState")) => Ok(Got::Odd("it lies in an archive of the store".into())),
            (StatusCode::METHOD_NOT_ALLOWED, _) => Ok(Got::Odd("the store keeps something else under the name".into())),
            (status, _) if status.is_success() => Ok(Got::Odd(format!("the store answered with status {}", status.as_u16()))),
            _ => Err(self.refused(&answer)),
        }
    }

    pub(super) async fn get_range(&self, name: &ObjectName, range: Range<u64>) -> Result<Bytes, ZoneError> {
        if range.start >= range.end {
            let length = self.length(name).await?;
            return if range.start == range.end && range.end <= length {
                Ok(Bytes::new())
            } else {
                Err(self.short(name, length, range.end))
            };
        }
        let wanted = range.end - range.start;
        let bytes = format!("bytes={}-{}", range.start, range.end - 1);
        let mut ask = Ask::new(Method::GET, Some(name.as_str()), self.parts.read_timeout);
        let headers = [("range", bytes.as_str())];
        ask.headers = &headers;
        ask.most = wanted;
        let answer = self.send(ask).await?;
        match (answer.status, answer.body) {
            (StatusCode::PARTIAL_CONTENT, Whole::Bytes(bytes)) if bytes.len() as u64 == wanted => Ok(bytes),
            (StatusCode::PARTIAL_CONTENT, Whole::Bytes(_)) | (StatusCode::RANGE_NOT_SATISFIABLE, _) => match self.length(name).await? {
                length if length < range.end => Err(self.short(name, length, range.end)),
                _ => Err(self.wrong(name, "the store gave less of it than there is".into())),
            },
            (StatusCode::PARTIAL_CONTENT, Whole::Longer(_)) => Err(self.wrong(name, "the store gave more of it than was asked for".into())),
            // Fewer bytes than were asked for, and all that there are.
            (StatusCode::OK, Whole::Bytes(all)) if range.start == 0 => match all.len() as u64 {
                length if length == wanted => Ok(all),
                length => Err(self.short(name, length, range.end)),
            },
            (StatusCode::OK, _) => Err(self.down("its store does not give parts of objects")),
            (status, body) => {
                let answer = Answer {
                    status,
                    headers: answer.headers,
                    body,
                };
                match self.not_got(answer)? {
                    Got::Nothing => Err(self.missing(name).await),
                    Got::Odd(detail) => Err(self.wrong(name, detail)),
                    Got::Bytes(_) | Got::Longer(_) => Err(self.down("its store answers what was not asked")),
                }
            }
        }
    }

    async fn length(&self, name: &ObjectName) -> Result<u64, ZoneError> {
        let answer = self
            .send(Ask::new(Method::HEAD, Some(name.as_str()), self.parts.read_timeout))
            .await?;
        if answer.status == StatusCode::OK {
            let length = answer.headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok());
            let length = length.and_then(|text| text.parse().ok());
            return length.ok_or_else(|| self.wrong(name, "the store does not say how long it is".into()));
        }
        match self.not_got(answer)? {
            Got::Nothing => Err(self.missing(name).await),
            Got::Odd(detail) => Err(self.wrong(name, detail)),
            Got::Bytes(_) | Got::Longer(_) => Err(self.down("its store answers what was not asked")),
        }
    }

    pub(super) async fn delete(&self, name: &ObjectName) -> Result<(), ZoneError> {
        let answer = self
            .send(Ask::new(Method::DELETE, Some(name.as_str()), self.parts.put_timeout))
            .await?;
        if !answer.status.is_success() && code_of(&answer).as_deref() != Some("NoSuchKey") {
            return Err(self.refused(&answer));
        }
        if self.late().may_arrive(name, Instant::now()) {
            return Err(self.unclear("a write of the same object that was given up may yet arrive"));
        }
        Ok(())
    }

    /// What is not there, unless the zone is not there either.
    async fn missing(&self, name: &ObjectName) -> ZoneError {
        match self.check_marker().await {
            Ok(()) => ZoneError::NotFound {
                zone: self.parts.name.clone(),
                name: name.clone(),
            },
            Err(error) => error,
        }
    }

    fn wrong(&self, name: &ObjectName, detail: String) -> ZoneError {
        ZoneError::Wrong {
            zone: self.parts.name.clone(),
            name: name.clone(),
            detail,
        }
    }

    fn short(&self, name: &ObjectName, length: u64, wanted: u64) -> ZoneError {
        ZoneError::Short {
            zone: self.parts.name.clone(),
            name: name.clone(),
            length,
            wanted,
        }
    }

    /// An answer that is a refusal. Of one that says that the store failed, nobody knows what it did before.
    pub(super) fn refused(&self, answer: &Answer) -> ZoneError {
        let code = code_of(answer);
        let code = code.as_deref().unwrap_or_default();
        let status = answer.status;
        let failed = status.is_server_error() || status == StatusCode::REQUEST_TIMEOUT;
        self.ready.store(false, Ordering::SeqCst);
        if matches!(code, "InvalidAccessKeyId" | "SignatureDoesNotMatch" | "ExpiredToken") {
            self.forget_client();
        }
        let detail = match code {
            "NoSuchBucket" => "the bucket does not exist".to_owned(),
            "AccessDenied" => "access is denied".to_owned(),
            "InvalidAccessKeyId" | "SignatureDoesNotMatch" => "its store does not take the access key, or its secret".to_owned(),
            "RequestTimeTooSkewed" => "its store's clock and this machine's differ too much".to_owned(),
            "SlowDown" | "ServiceUnavailable" => "its store is too busy".to_owned(),
            "QuotaExceeded" | "XMinioStorageFull" => "no space is left".to_owned(),
            _ if status.is_redirection() => "its store sends us elsewhere: look at its address and its region".to_owned(),
            "" => format!("its store answered with status {}", status.as_u16()),
            code => format!("its store answered with status {} ({code})", status.as_u16()),
        };
        if failed { self.unclear(detail) } else { self.down(detail) }
    }
}

fn code_of(answer: &Answer) -> Option<String> {
    match &answer.body {
        Whole::Bytes(xml) => answers::code(xml),
        Whole::Longer(_) => None,
    }
}
