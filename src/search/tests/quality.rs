//! What people type, and what they mean: the first result of each query, over the catalogues.

use super::*;
use crate::api::decode::parse_yaml;

/// Over the sample catalogue and the few Chinese manifests below.
const SAMPLE: [(&str, &str); 34] = [
    // names
    ("redis", "databases/redis"),
    ("databases/redis", "databases/redis"),
    ("Nginx", "labring/nginx"),
    ("cert-manager", "platform/cert-manager"),
    ("certmanager", "platform/cert-manager"),
    ("cert manager", "platform/cert-manager"),
    ("ARGO CD", "platform/argo-cd"),
    // beginnings
    ("postg", "databases/postgresql"),
    ("prom", "observability/prometheus"),
    ("gpu-op", "platform/gpu-operator"),
    ("metrics-s", "labring/metrics-server"),
    ("observability/l", "observability/loki"),
    // typos
    ("prometeus", "observability/prometheus"),
    ("grafna", "observability/grafana"),
    ("postgresqll", "databases/postgresql"),
    ("kakfa", "databases/kafka"),
    ("lonhgorn", "labring/longhorn"),
    // tags
    ("databases/redis:8.0.3", "databases/redis:8.0.3"),
    ("redis:7", "databases/redis:7.4.5"),
    ("labring/nginx:1.28.0", "labring/nginx:1.28.0"),
    ("cilium:v1.17", "labring/cilium:v1.17.6"),
    // what it does
    ("load balancer", "labring/nginx"),
    ("ebpf", "labring/cilium"),
    ("relational database", "databases/postgresql"),
    ("tls certificates", "platform/cert-manager"),
    ("nvidia", "platform/gpu-operator"),
    ("s3 object storage", "databases/minio"),
    ("gitops", "platform/argo-cd"),
    ("time series", "observability/prometheus"),
    // Chinese
    ("数据库备份", "zh/db-backup"),
    ("网关", "zh/gateway"),
    ("微服务网关", "zh/gateway"),
    ("对象存储", "zh/oss"),
    ("ＭｙＳＱＬ备份", "zh/db-backup"),
];

/// Over the real catalogue.
const REAL: [(&str, &str); 26] = [
    ("rook", "labring/rook"),
    ("labring/helm", "labring/helm"),
    ("mysql", "labring/mysql-operator"),
    ("mysql operator", "labring/mysql-operator"),
    ("redis-exp", "labring/redis-exporter"),
    ("kube-prom", "labring/kube-prometheus-stack"),
    ("certmanager", "labring/cert-manager"),
    ("operator redis", "labring/redis-operator"),
    ("metrics", "labring/metrics-server"),
    ("clickhose", "labring/clickhouse"),
    ("promethues stack", "labring/kube-prometheus-stack"),
    ("opeebs", "labring/openebs"),
    ("mysql-operatr", "labring/mysql-operator"),
    ("labring/helm:v3.8.2", "labring/helm:v3.8.2"),
    ("mysql-operator:8.0", "labring/mysql-operator:8.0.23-14.1"),
    ("openebs:v1.9.0", "labring/openebs:v1.9.0"),
    ("redis-exporter:latest", "labring/redis-exporter:latest"),
    ("x.509 certificate", "labring/cert-manager"),
    ("ceph", "labring/rook"),
    ("container attached storage", "labring/openebs"),
    ("grafana dashboards", "labring/kube-prometheus-stack"),
    ("autoscaling", "labring/metrics-server"),
    ("analytical reports", "labring/clickhouse"),
    ("数据库", "labring/clickhouse"),
    ("证书", "labring/cert-manager"),
    ("redis 监控", "labring/redis-exporter"),
];

fn chinese() -> Vec<Value> {
    let backup = json!({
        "keywords": ["Database"],
        "description": "定时备份 MySQL 和 PostgreSQL 数据库，备份可以放到对象存储。",
        "docs": "# 数据库备份\n一条命令恢复数据。",
    });
    let gateway = json!({
        "keywords": ["Network"], "description": "云原生微服务网关，支持限流和熔断。", "docs": "路由、认证、日志。",
    });
    let store = json!({
        "keywords": ["Storage"], "description": "兼容 S3 的分布式对象存储。", "docs": "把文件存到多块磁盘上。",
    });
    vec![image("zh/db-backup:1.0", backup), image("zh/gateway:2.1", gateway), image("zh/oss:0.9", store)]
}

/// The manifests of a file, without the packs.
fn manifests(text: &str) -> Vec<Value> {
    let documents = text.split("\n---").map(|document| parse_yaml(document.as_bytes()).unwrap().0);
    documents.filter(|document| document["kind"] == "Image" || document["kind"] == "Repository").collect()
}

async fn shelf(manifests: Vec<Value>) -> Shelf {
    let mut shelf = Shelf::open().await;
    let (repositories, images): (Vec<_>, Vec<_>) = manifests.into_iter().partition(|m| m["kind"] == "Repository");
    for manifest in repositories.into_iter().chain(images) {
        shelf.hub.create(manifest).await;
    }
    shelf.catch_up();
    shelf
}

/// The first result, with the tag where one is asked for.
fn first(shelf: &Shelf, text: &str) -> String {
    let hits = shelf.find(Sight::Public, &by(text));
    let Some(hit) = hits.hits.first() else { return "nothing".to_owned() };
    let image = hit.matched_image.as_ref().and_then(|image| image.image()).map(|image| image.name().to_owned());
    image.unwrap_or_else(|| names(&hits)[0].clone())
}

fn check(shelf: &Shelf, table: &[(&str, &str)]) {
    let wrong: Vec<String> = table
        .iter()
        .map(|(text, wanted)| (text, wanted, first(shelf, text)))
        .filter(|(_, wanted, found)| *wanted != found)
        .map(|(text, wanted, found)| format!("{text:?}: {found}, not {wanted}"))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn what_people_type_finds_what_they_mean_in_the_sample() {
    let text = include_str!("../../../examples/catalog.yaml");
    let shelf = shelf(manifests(text).into_iter().chain(chinese()).collect()).await;
    check(&shelf, &SAMPLE);
    assert_eq!(shelf.found("billing"), [""; 0], "it is private");
}

#[tokio::test]
async fn what_people_type_finds_what_they_mean_in_the_real_catalogue() {
    let Some(path) = std::env::var_os("IMAGEHUB_CATALOG") else { return };
    let text = std::fs::read_to_string(path).unwrap();
    // Another catalogue than the real one has other answers.
    if text.contains("labring/kube-prometheus-stack:v0.56.0") {
        check(&shelf(manifests(&text)).await, &REAL);
    }
}
