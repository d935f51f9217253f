//! The sink `elasticsearch`.
