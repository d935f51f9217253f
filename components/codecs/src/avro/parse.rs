//! From the JSON of a schema to its types.
//!
//! Only what records are read and written by is looked at. Defaults, aliases, documentation and the spelling of names do not
//! matter to bytes, so a mistake in them costs nobody a record; an attribute that makes no sense, such as a logical type that
//! does not fit its type, is ignored, as the specification asks for.

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value as Json};
use vrl::value::KeyString;

use super::{Branch, Field, MAX_DEPTH, Schema, Type, Unit, logical};

type Definition = Map<String, Json>;

impl Schema {
    /// Parses a schema, and those it refers to by name.
    pub fn parse(text: &str, references: &[String]) -> Result<Schema, String> {
        Self::lay_out(text, references).map_err(|why| format!("the schema cannot be used: {why}"))
    }

    fn lay_out(text: &str, references: &[String]) -> Result<Schema, String> {
        let json = |text: &str| serde_json::from_str(text).map_err(|error| format!("it is no JSON: {error}"));
        let main: Json = json(text)?;
        let others = references.iter().map(|text| json(text)).collect::<Result<_, _>>()?;
        let mut layout = Layout { types: Vec::new(), named: HashMap::new(), others };
        let root = layout.add(&main, "", 0)?;
        Ok(Schema { types: layout.types, root, name: full_name(&main) })
    }
}

/// The types so far.
struct Layout {
    types: Vec<Type>,
    /// By full name.
    named: HashMap<String, usize>,
    /// Schemas that were given beside, and are not added yet.
    others: Vec<Json>,
}

impl Layout {
    fn push(&mut self, of: Type) -> usize {
        self.types.push(of);
        self.types.len() - 1
    }

    /// Adds a type that stands within the namespace `space`.
    fn add(&mut self, schema: &Json, space: &str, depth: usize) -> Result<usize, String> {
        if depth > MAX_DEPTH {
            return Err(format!("it has more than {MAX_DEPTH} types inside one another"));
        }
        match schema {
            Json::String(name) => self.add_name(name, space, depth),
            Json::Array(branches) => self.add_union(branches, space, depth),
            Json::Object(definition) => self.define(definition, space, depth),
            other => Err(format!("expected a type, got {other}")),
        }
    }

    fn add_name(&mut self, name: &str, space: &str, depth: usize) -> Result<usize, String> {
        let primitive = match name {
            "null" => Type::Null,
            "boolean" => Type::Boolean,
            "int" => Type::Int,
            "long" => Type::Long,
            "float" => Type::Float,
            "double" => Type::Double,
            "bytes" => Type::Bytes,
            "string" => Type::String,
            _ => return self.refer(name, space, depth),
        };
        Ok(self.push(primitive))
    }

    /// The type of a name: within its namespace, or else by the name as it stands.
    fn refer(&mut self, name: &str, space: &str, depth: usize) -> Result<usize, String> {
        let full = qualified(name, space);
        loop {
            for candidate in [full.as_str(), name] {
                if let Some(number) = self.named.get(candidate) {
                    return Ok(*number);
                }
                let meant = self.others.iter().position(|other| full_name(other).as_deref() == Some(candidate));
                if let Some(meant) = meant {
                    let other = self.others.remove(meant);
                    return self.add(&other, "", depth + 1);
                }
            }
            // It may be defined inside one of the others.
            let Some(other) = self.others.pop() else {
                return Err(format!("it refers to the type `{full}`, which is not there"));
            };
            self.add(&other, "", depth + 1)?;
        }
    }

    fn add_union(&mut self, branches: &[Json], space: &str, depth: usize) -> Result<usize, String> {
        let mut of = Vec::with_capacity(branches.len());
        for branch in branches {
            if branch.is_array() {
                return Err("a union is directly within another one".to_owned());
            }
            of.push(self.add(branch, space, depth + 1)?);
        }
        let is_text = |number: &usize| {
            matches!(
                self.types[*number],
                Type::String | Type::Uuid | Type::UuidBytes | Type::Enum(_) | Type::Bytes | Type::Fixed(_)
            )
        };
        let texts = of.iter().filter(|number| is_text(number)).count();
        let tag = |number: usize| match &self.types[number] {
            Type::Bytes if texts > 1 => Some("bytes".into()),
            Type::Fixed(_) if texts > 1 => {
                let name = self.named.iter().find(|(_, of)| **of == number);
                name.map(|(name, _)| name.as_str().into())
            }
            Type::Float if texts > 0 => Some("float".into()),
            Type::Double if texts > 0 => Some("double".into()),
            _ => None,
        };
        let branches = of.iter().map(|number| Branch { of: *number, tag: tag(*number) }).collect();
        Ok(self.push(Type::Union(branches)))
    }

    fn define(&mut self, definition: &Definition, space: &str, depth: usize) -> Result<usize, String> {
        let number = match definition.get("type") {
            Some(Json::String(kind)) => match kind.as_str() {
                "record" | "error" => self.add_record(definition, space, depth)?,
                "enum" => self.add_enum(definition, space)?,
                "fixed" => self.add_fixed(definition, space)?,
                "array" => {
                    let of = self.add(part(definition, "items")?, space, depth + 1)?;
                    self.push(Type::Array(of))
                }
                "map" => {
                    let of = self.add(part(definition, "values")?, space, depth + 1)?;
                    self.push(Type::Map(of))
                }
                name => self.add_name(name, space, depth)?,
            },
            Some(nested) => self.add(nested, space, depth + 1)?,
            None => return Err("a type has no `type`".to_owned()),
        };
        Ok(match logical_type(definition, &self.types[number]) {
            // A name may stand for the plain type elsewhere, but within its own definition it means this one.
            Some(of) if definition.get("type").and_then(Json::as_str) == Some("fixed") => {
                self.types[number] = of;
                number
            }
            Some(of) => self.push(of),
            None => number,
        })
    }

    /// A place for a named type, and the namespace of what is inside; what is inside may refer to it.
    fn name(&mut self, definition: &Definition, space: &str) -> Result<(usize, String, String), String> {
        let (full, space) = names(definition, space).ok_or("a record, enum or fixed has no `name`")?;
        let number = self.push(Type::Null);
        self.named.insert(full.clone(), number);
        let aliases = definition.get("aliases").and_then(Json::as_array);
        for alias in aliases.into_iter().flatten().filter_map(Json::as_str) {
            self.named.entry(qualified(alias, &space)).or_insert(number);
        }
        Ok((number, full, space))
    }

    fn add_record(&mut self, definition: &Definition, space: &str, depth: usize) -> Result<usize, String> {
        let (number, full, space) = self.name(definition, space)?;
        let Some(Json::Array(fields)) = definition.get("fields") else {
            return Err(format!("the record `{full}` has no list `fields`"));
        };
        let mut all: Vec<Field> = Vec::with_capacity(fields.len());
        let mut seen = HashSet::with_capacity(fields.len());
        for (at, field) in fields.iter().enumerate() {
            let Some((field, name)) =
                field.as_object().and_then(|field| Some((field, field.get("name").and_then(Json::as_str)?)))
            else {
                return Err(format!("field {} of the record `{full}` has no `name`", at + 1));
            };
            if !seen.insert(name) {
                return Err(format!("the record `{full}` has two fields `{name}`"));
            }
            // The innermost place says enough, for it has the record's full name.
            let placed = |why: String| match why.starts_with("field ") {
                true => why,
                false => format!("field `{name}` of the record `{full}`: {why}"),
            };
            let of = self.define(field, &space, depth + 1).map_err(placed)?;
            all.push(Field { name: KeyString::from(name), of, default: field.get("default").cloned() });
        }
        self.types[number] = Type::Record(all);
        Ok(number)
    }

    fn add_enum(&mut self, definition: &Definition, space: &str) -> Result<usize, String> {
        let (number, full, _) = self.name(definition, space)?;
        let symbols = definition.get("symbols").and_then(Json::as_array).map(|symbols| {
            symbols.iter().map(|symbol| symbol.as_str().map(str::to_owned)).collect::<Option<Vec<String>>>()
        });
        let symbols = symbols.flatten().ok_or_else(|| format!("the enum `{full}` has no list of texts `symbols`"))?;
        self.types[number] = Type::Enum(symbols);
        Ok(number)
    }

    fn add_fixed(&mut self, definition: &Definition, space: &str) -> Result<usize, String> {
        let (number, full, _) = self.name(definition, space)?;
        let size = definition.get("size").and_then(Json::as_u64).and_then(|size| usize::try_from(size).ok());
        self.types[number] = Type::Fixed(size.ok_or_else(|| format!("the fixed `{full}` has no number `size`"))?);
        Ok(number)
    }
}

fn part<'a>(definition: &'a Definition, name: &str) -> Result<&'a Json, String> {
    definition.get(name).ok_or_else(|| format!("a type has no `{name}`"))
}

/// A name within a namespace; one with a dot is whole.
fn qualified(name: &str, space: &str) -> String {
    if name.contains('.') || space.is_empty() { name.to_owned() } else { format!("{space}.{name}") }
}

/// The full name of a definition, and its namespace.
fn names(definition: &Definition, space: &str) -> Option<(String, String)> {
    let text = |name: &str| definition.get(name).and_then(Json::as_str);
    let name = text("name").filter(|name| !name.is_empty())?;
    match name.rsplit_once('.') {
        Some((space, _)) => Some((name.to_owned(), space.to_owned())),
        None => {
            let space = text("namespace").unwrap_or(space);
            Some((qualified(name, space), space.to_owned()))
        }
    }
}

/// The full name of a schema's own type.
fn full_name(schema: &Json) -> Option<String> {
    let definition = schema.as_object()?;
    let is_named = matches!(definition.get("type")?.as_str()?, "record" | "error" | "enum" | "fixed");
    is_named.then(|| names(definition, "").map(|(full, _)| full)).flatten()
}

/// What a logical type makes of the type it stands beside; `None` where it does not fit, or is not known.
fn logical_type(definition: &Definition, of: &Type) -> Option<Type> {
    Some(match (definition.get("logicalType")?.as_str()?, of) {
        ("decimal", Type::Bytes) => Type::Decimal(scale(definition)?, None),
        ("decimal", Type::Fixed(size)) => Type::Decimal(scale(definition)?, Some(*size)),
        ("uuid", Type::String) => Type::Uuid,
        ("uuid", Type::Fixed(16)) => Type::UuidBytes,
        ("date", Type::Int) => Type::Date,
        ("time-millis", Type::Int) => Type::Time(Unit::Millis),
        ("time-micros", Type::Long) => Type::Time(Unit::Micros),
        ("timestamp-millis", Type::Long) => Type::Timestamp(Unit::Millis),
        ("timestamp-micros", Type::Long) => Type::Timestamp(Unit::Micros),
        ("timestamp-nanos", Type::Long) => Type::Timestamp(Unit::Nanos),
        ("local-timestamp-millis", Type::Long) => Type::LocalTimestamp(Unit::Millis),
        ("local-timestamp-micros", Type::Long) => Type::LocalTimestamp(Unit::Micros),
        ("local-timestamp-nanos", Type::Long) => Type::LocalTimestamp(Unit::Nanos),
        ("duration", Type::Fixed(12)) => Type::Duration,
        _ => return None,
    })
}

/// The scale of a decimal whose precision and scale make sense.
fn scale(definition: &Definition) -> Option<u32> {
    let precision = definition.get("precision")?.as_u64().filter(|precision| *precision > 0)?;
    let scale = definition.get("scale").map_or(Some(0), Json::as_u64)?;
    u32::try_from(scale).ok().filter(|digits| scale <= precision && *digits <= logical::MAX_DIGITS)
}
