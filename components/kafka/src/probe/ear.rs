//! What brokers say besides answers.

use std::sync::{Mutex, PoisonError};

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::ProducerContext;

use super::MANY;

/// Keeps what brokers say besides answers.
#[derive(Default)]
pub(super) struct Ear {
    errors: Mutex<Vec<(Option<Code>, String)>>,
    /// How the record ended that was sent to be refused.
    answer: Mutex<Option<Result<(), Code>>>,
}

impl ClientContext for Ear {
    fn log(&self, _: RDKafkaLogLevel, _: &str, _: &str) {}

    fn error(&self, error: KafkaError, reason: &str) {
        let mut errors = self.errors.lock().unwrap_or_else(PoisonError::into_inner);
        // the first ones say most, and there may be many
        if errors.len() < MANY {
            errors.push((error.rdkafka_error_code(), reason.to_owned()));
        }
    }
}

impl ConsumerContext for Ear {}

impl ProducerContext for Ear {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        self.answered(result.as_ref().err().map(|(error, _)| error.clone()));
    }
}

impl Ear {
    fn answered(&self, error: Option<KafkaError>) {
        let answer = error.map_or(Ok(()), |error| Err(error.rdkafka_error_code().unwrap_or(Code::Unknown)));
        *self.answer.lock().unwrap_or_else(PoisonError::into_inner) = Some(answer);
    }

    pub fn answer(&self) -> Option<Result<(), Code>> {
        *self.answer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The error that says why no broker talks to us, if one does.
    pub fn telling(&self) -> Option<(Code, String)> {
        let errors = self.errors.lock().unwrap_or_else(PoisonError::into_inner);
        let is_final = |code: &Code| matches!(code, Code::SSL | Code::Authentication | Code::SaslAuthenticationFailed);
        let known = || errors.iter().filter_map(|(code, reason)| Some(((*code)?, reason.clone())));
        known().find(|(code, _)| is_final(code))
    }

    /// Any error at all.
    pub fn last(&self) -> Option<String> {
        let errors = self.errors.lock().unwrap_or_else(PoisonError::into_inner);
        let last = errors.iter().rfind(|(code, _)| *code != Some(Code::AllBrokersDown));
        last.map(|(_, reason)| reason.clone())
    }
}
