//! The components of this binary: naming a crate links it, and linking registers what it has.

use weir_aggregate as _;
use weir_alerts as _;
use weir_alerts as _;
use weir_codecs as _;
use weir_console as _;
use weir_elasticsearch as _;
use weir_file as _;
use weir_filebeat as _;
use weir_http as _;
use weir_kafka as _;
use weir_kubernetes as _;
use weir_prometheus as _;
use weir_remap as _;
use weir_simulate as _;
