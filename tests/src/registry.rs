//! A schema registry in the test's own process: Confluent's REST interface as far as weir asks, and ways to make it fail.

use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

/// What the registry answers with beside what it knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    /// As a registry does.
    Well,
    /// 503 to everything.
    Down,
    /// 200 and something else than JSON.
    Strange,
    /// 404 as a web server that is no registry.
    NoRegistry,
}

#[derive(Debug)]
struct Inside {
    mood: Mood,
    /// The value of the header `authorization` that is asked for.
    authorization: Option<String>,
    /// `id - 1` is the place.
    schemas: Vec<Value>,
    /// Subject and schema id, in order of versions.
    versions: Vec<(String, usize)>,
    asked: Vec<String>,
}

/// A schema registry.
#[derive(Debug)]
pub struct Registry {
    /// Where it is.
    pub url: String,
    inside: Arc<Mutex<Inside>>,
    runtime: Option<tokio::runtime::Runtime>,
}

impl Registry {
    /// Starts one that knows nothing.
    pub fn start() -> Registry {
        let (schemas, versions, asked) = (Vec::new(), Vec::new(), Vec::new());
        let inside = Inside { mood: Mood::Well, authorization: None, schemas, versions, asked };
        let inside = Arc::new(Mutex::new(inside));
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new().fallback(answer).with_state(inside.clone());
        runtime.spawn(async move {
            axum::serve(tokio::net::TcpListener::from_std(listener).unwrap(), router).await.unwrap();
        });
        Registry { url, inside, runtime: Some(runtime) }
    }

    fn inside(&self) -> std::sync::MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a schema under a subject; gives its id. `more` has `schemaType` and `references`, where they are needed.
    pub fn put(&self, subject: &str, schema: &str, more: Value) -> u32 {
        let mut entry = json!({ "schema": schema });
        entry.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        u32::try_from(self.inside().register(subject, entry)).unwrap()
    }

    /// How it answers from now on.
    pub fn be(&self, mood: Mood) {
        self.inside().mood = mood;
    }

    /// Asks for this user from now on: the header's value, such as `Basic dTpw`.
    pub fn let_in(&self, authorization: &str) {
        self.inside().authorization = Some(authorization.to_owned());
    }

    /// What it was asked, method and path, since the last call.
    pub fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.inside().asked)
    }
}

impl Drop for Registry {
    /// Also within a test's own runtime, where a plain drop may not wait.
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Inside {
    fn register(&mut self, subject: &str, entry: Value) -> usize {
        let id = self.schemas.iter().position(|known| *known == entry).map_or(self.schemas.len() + 1, |at| at + 1);
        if id > self.schemas.len() {
            self.schemas.push(entry);
        }
        self.versions.push((subject.to_owned(), id));
        id
    }

    fn of(&self, subject: &str) -> Vec<usize> {
        self.versions.iter().filter(|(name, _)| name == subject).map(|(_, id)| *id).collect()
    }

    fn entry(&self, id: usize) -> Value {
        let mut entry = self.schemas[id - 1].clone();
        entry["id"] = id.into();
        entry
    }
}

fn not_found(code: u32) -> Response {
    (StatusCode::NOT_FOUND, json!({ "error_code": code, "message": "not found" }).to_string()).into_response()
}

async fn answer(
    State(inside): State<Arc<Mutex<Inside>>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let mut inside = inside.lock().unwrap_or_else(PoisonError::into_inner);
    inside.asked.push(format!("{method} {}", uri.path()));
    match inside.mood {
        Mood::Well => {}
        Mood::Down => return (StatusCode::SERVICE_UNAVAILABLE, "down").into_response(),
        Mood::Strange => return "<html>".into_response(),
        Mood::NoRegistry => return (StatusCode::NOT_FOUND, "<html>").into_response(),
    }
    let authorization = headers.get("authorization").and_then(|value| value.to_str().ok());
    if inside.authorization.is_some() && authorization != inside.authorization.as_deref() {
        return (StatusCode::UNAUTHORIZED, json!({ "error_code": 401 }).to_string()).into_response();
    }
    let own = |body: &[u8]| {
        let mut entry: Value = serde_json::from_slice(body).unwrap();
        if entry["schemaType"] == "AVRO" {
            entry.as_object_mut().unwrap().remove("schemaType");
        }
        entry
    };
    let path: Vec<&str> = uri.path().trim_start_matches('/').split('/').collect();
    match (method.as_str(), &path[..]) {
        ("GET", ["schemas", "ids", id]) => match id.parse::<usize>() {
            Ok(id) if (1..=inside.schemas.len()).contains(&id) => inside.entry(id).to_string().into_response(),
            _ => not_found(40403),
        },
        ("GET", ["subjects", subject, "versions", version]) => {
            let versions = inside.of(subject);
            let id = match version.parse::<usize>() {
                Ok(version) => version.checked_sub(1).and_then(|at| versions.get(at)),
                Err(_latest) => versions.last(),
            };
            id.map_or_else(|| not_found(40401), |id| inside.entry(*id).to_string().into_response())
        }
        ("POST", ["subjects", subject, "versions"]) => {
            let id = inside.register(subject, own(&body));
            json!({ "id": id }).to_string().into_response()
        }
        ("POST", ["subjects", subject]) => {
            let known = own(&body);
            let id = inside.of(subject).into_iter().find(|id| inside.schemas[id - 1] == known);
            id.map_or_else(|| not_found(40403), |id| json!({ "id": id, "version": 1 }).to_string().into_response())
        }
        _ => not_found(404),
    }
}
