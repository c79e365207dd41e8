//! Waiting for a condition, never for a while.

use std::future::Future;
use std::time::Duration;

use anyhow::anyhow;
use tokio::time::Instant;

/// How often a condition is looked at.
const PAUSE: Duration = Duration::from_millis(50);

/// Asks `attempt` until it says yes. When it has not after `within`, the error says what was waited for and why the last attempt failed.
pub async fn until<T, F, Attempt>(what: &str, within: Duration, mut attempt: F) -> anyhow::Result<T>
where
    F: FnMut() -> Attempt,
    Attempt: Future<Output = anyhow::Result<T>>,
{
    let deadline = Instant::now() + within;
    loop {
        let last = match tokio::time::timeout_at(deadline, attempt()).await {
            Ok(Ok(yes)) => return Ok(yes),
            Ok(Err(error)) => error,
            Err(_) => anyhow!("the last attempt did not end"),
        };
        if Instant::now() >= deadline {
            return Err(last.context(format!("waited {} s for this: {what}", within.as_secs())));
        }
        tokio::time::sleep(PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_condition_that_never_comes_is_named() {
        let never = until("the moon", Duration::ZERO, || async { Err::<(), _>(anyhow!("still day")) }).await;
        let text = format!("{:#}", never.unwrap_err());
        assert!(text.contains("the moon") && text.contains("still day"), "{text}");
    }

    #[tokio::test]
    async fn a_condition_that_comes_later_is_met() {
        let mut asked = 0;
        let met = until("the third time", Duration::from_secs(10), || {
            asked += 1;
            let now = asked;
            async move { if now < 3 { Err(anyhow!("not yet")) } else { Ok(now) } }
        });
        assert_eq!(met.await.unwrap(), 3);
    }
}
