//! The `file` source.

use std::future::{Future, poll_fn};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::task::Poll;

use schemars::JsonSchema;
use serde::Deserialize;
use weir::component::{
    BuildContext, DecodingOption, LaneHandle, Lanes, Origin, Problems, Resource, Source, SourceConfig, Stream,
    async_trait,
};
use weir::config::ByteSize;
use weir::event::{Codec, OriginId, OriginKind};
use weir::{Error, ErrorKind, Result};

use crate::compression::Compression;
use crate::line_file::{LineFile, Reader, Unfinished, Unread};
use crate::paths::{self, Fruitless, Listed, Listing, list, name_of, pattern_of};
use crate::piped::{self, Piped};

/// Files read at the same time at most: each holds a block of its own.
const LANES: usize = 8;

/// Reads files to their end, one event per line.
///
/// The position is stored: without `--once`, the next run continues where this one ended and reads a last line that had
/// no newline yet. With `--once`, each run reads the files from the beginning.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FileSource {
    /// Files to read, in this order; `*` matches names, `**` matches directories of any depth. A file with several
    /// names is read once.
    #[schemars(length(min = 1))]
    #[schemars(extend("items" = {"type": "string", "format": "path"}))]
    paths: Vec<PathBuf>,
    /// Decoding of lines: a codec's name, or a map with its options. Default: `json`.
    #[serde(default)]
    decoding: DecodingOption,
    /// Compression of the files. Default: `auto`.
    #[serde(default)]
    compression: Compression,
    /// Maximum line length; longer lines are truncated and passed on. Default: `16MiB`.
    #[serde(default = "default_max_line_size")]
    max_line_size: ByteSize,
    /// Also read named pipes (FIFOs), until all writers have closed them. Events read but not delivered at a crash are
    /// lost. Default: false.
    #[serde(default)]
    fifo: bool,
}

fn default_max_line_size() -> ByteSize {
    ByteSize(16 << 20)
}

weir::register_source!("file", FileSource, "{type: file, paths: [in.ndjson], decoding: json}");

#[typetag::deserialize(name = "file")]
#[async_trait]
impl SourceConfig for FileSource {
    fn check(&self, problems: &mut Problems) {
        self.decoding.check(Stream::Lines, problems);
        if self.paths.is_empty() {
            problems.error("paths", "missing_value", "names no file", "name at least one: `paths: [in.ndjson]`");
        }
        for (at, path) in self.paths.iter().enumerate() {
            let option = format!("paths.{at}");
            if let Some(Err(error)) = pattern_of(path).map(paths::check_pattern) {
                let help = "`*` stands for any part of a name, `**` for any folders, `[*]` for a star";
                problems.error(&option, "bad_value", error.to_string(), help);
            } else if let Some(files) = paths::files_below(path) {
                let help = format!("write `{files}` for all files below");
                problems.warning(&option, "folders_alone", "`**` at the end fits folders alone, and no file", help);
            }
        }
    }

    fn has_one_lane(&self) -> bool {
        matches!(&*self.paths, [path] if pattern_of(path).is_none())
    }

    fn is_deterministic(&self) -> bool {
        true
    }

    fn knows_time(&self) -> bool {
        false
    }

    fn codec(&self) -> Result<Codec> {
        self.decoding.build()
    }

    fn resources(&self) -> Vec<Resource> {
        let is_literal = |path: &&PathBuf| !path.to_string_lossy().contains(['*', '?', '[']);
        self.paths.iter().filter(is_literal).map(|path| Resource::read(Resource::file(path))).collect()
    }

    fn explain(&self) -> String {
        "one lane a file; the position is durable, so a run that was cut off goes on where it was".to_owned()
    }

    async fn build(&self, context: &BuildContext) -> Result<Box<dyn Source>> {
        let listing = list(&self.paths, self.fifo);
        let node = &*context.node;
        for Fruitless { pattern, folders } in &listing.fruitless {
            let pattern = name_of(pattern);
            match folders.first() {
                Some(first) => {
                    let (first, files) = (name_of(first), paths::files_in(&pattern));
                    tracing::warn!(
                        node,
                        pattern,
                        folders = folders.len(),
                        first,
                        "only folders fit the pattern, and no file; write {files} for the files in them"
                    );
                }
                None => tracing::warn!(node, pattern, "no file fits the pattern"),
            }
        }
        for path in &listing.again {
            tracing::info!(node, path = name_of(path), "the same file under another name: it is read once");
        }
        if context.once {
            self.all_there(&listing)?;
        }
        let codec = self.codec()?;
        let regular: Vec<&Listed> = listing.files.iter().filter(|file| !file.is_fifo).collect();
        let names = regular.iter().map(|file| name_of(&file.path)).collect();
        let unfinished = Arc::new(Mutex::new(Unfinished { left: regular.len(), names }));
        let mut origins: Vec<Box<dyn Origin>> = Vec::new();
        for (path, error) in listing.unread {
            let id = origin_id(context, name_of(&path), OriginKind::File);
            let what = "the files in it cannot be found; check its rights, or leave it out of `paths`";
            let error = Error::new(ErrorKind::Io, "find files", what).with("path", &id.log).caused_by(error);
            origins.push(Box::new(Unread { id, error: Some(error) }));
        }
        for file in listing.files {
            origins.push(self.origin(file, codec.clone(), context, &unfinished));
        }
        // Under `--once` the order of the output follows from the order of the files.
        let at_once = if context.once { 1 } else { LANES };
        Ok(Box::new(Files { origins, at_once, context: context.clone() }))
    }
}

fn origin_id(context: &BuildContext, log: String, kind: OriginKind) -> Arc<OriginId> {
    Arc::new(OriginId { node: context.node.to_string(), log, partition: 0, kind })
}

impl FileSource {
    /// A run that is to read everything begins only where there is something: an output of the run before is not given up
    /// for a mistyped path.
    fn all_there(&self, listing: &Listing) -> Result<()> {
        let refused = |what: &str, path: String| Error::new(ErrorKind::Io, "find files", what).with("path", path);
        if listing.files.is_empty() {
            let paths: Vec<_> = self.paths.iter().map(|path| path.display().to_string()).collect();
            let what = match listing.fruitless.iter().find(|fruitless| !fruitless.folders.is_empty()) {
                Some(Fruitless { pattern, .. }) => {
                    let files = paths::files_in(&name_of(pattern));
                    format!("only folders fit, and no file; write `{files}` for the files in them")
                }
                None => "no file fits; correct `paths`, or put the files there".to_owned(),
            };
            return Err(refused(&what, paths.join(", ")));
        }
        for file in listing.files.iter().filter(|file| !file.by_pattern) {
            paths::readable(&file.path, self.fifo)
                .map_err(|error| refused(paths::remedy(&error), name_of(&file.path)).caused_by(error))?;
        }
        Ok(())
    }

    fn origin(
        &self,
        file: Listed,
        codec: Codec,
        context: &BuildContext,
        unfinished: &Arc<Mutex<Unfinished>>,
    ) -> Box<dyn Origin> {
        let log = name_of(&file.path);
        let longest = usize::try_from(self.max_line_size.0).unwrap_or(usize::MAX);
        if file.is_fifo {
            let compression = self.compression.of(&file.path);
            let open = Box::new(move || Ok(Box::new(std::fs::File::open(file.path)?) as Box<dyn std::io::Read + Send>));
            let reader = piped::Reader { open, compression, longest };
            return Box::new(Piped::new(origin_id(context, log, OriginKind::Other), codec, reader));
        }
        Box::new(Reader::new(LineFile {
            id: origin_id(context, log, OriginKind::File),
            path: file.path,
            may_vanish: file.by_pattern,
            compression: self.compression,
            codec,
            longest,
            context: context.clone(),
            unfinished: unfinished.clone(),
        }))
    }
}

struct Files {
    origins: Vec<Box<dyn Origin>>,
    at_once: usize,
    context: BuildContext,
}

impl Files {
    /// Notes what is wrong with one file; the others are read all the same, and the run does not end well.
    fn note(context: &BuildContext, end: Result<()>) {
        if let Err(error) = end {
            context.trouble.set(format!("a file is not read to its end: {error}"));
        }
    }
}

#[async_trait]
impl Source for Files {
    async fn run(self: Box<Self>, lanes: Lanes) -> Result<()> {
        let mut open: Vec<LaneHandle> = Vec::new();
        let mut origins = self.origins.into_iter();
        while let Some(origin) = origins.next() {
            if open.len() == self.at_once {
                Files::note(&self.context, first_end(&mut open).await);
            }
            if lanes.is_stopping() {
                break;
            }
            match origins.len() {
                0 => open.extend(lanes.open_all(vec![origin]).await?),
                _ => open.push(lanes.open(origin).await?),
            }
        }
        while !open.is_empty() {
            Files::note(&self.context, first_end(&mut open).await);
        }
        Ok(())
    }
}

/// Waits until one of the lanes has ended, and takes it out.
async fn first_end(open: &mut Vec<LaneHandle>) -> Result<()> {
    let (at, end) = {
        let mut ends: Vec<_> = open.iter_mut().map(|lane| Box::pin(lane.ended())).collect();
        poll_fn(|context| {
            let mut polled = ends.iter_mut().map(|end| end.as_mut().poll(context)).enumerate();
            let ended = polled.find_map(|(at, polled)| match polled {
                Poll::Ready(end) => Some((at, end)),
                Poll::Pending => None,
            });
            ended.map_or(Poll::Pending, Poll::Ready)
        })
        .await
    };
    drop(open.swap_remove(at));
    end.map(drop)
}
