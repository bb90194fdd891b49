# `make` lists what there is. The work is in cargo and scripts/; here are only the names.

# cargo uses all cores by itself, and can't use make's job server through a shell: `make -j` must not matter.
.NOTPARALLEL:
unexport MAKEFLAGS
.PHONY: help run check test bench bench-cluster bench-ci bench-ci-accept build openapi kubectl cluster clean
.PHONY: install uninstall deploy undeploy docker-build kubefile

# For a cluster: the image, and the kubectl that its kubeconfig is for.
IMG ?= labring/imagehub:0.1.0
KUBECTL ?= kubectl

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' Makefile

run: ## build the release and serve the sample catalogue from ./imagehub-data
	cargo run --release --locked -- serve --demo

check: ## the quick inner loop: format, clippy with warnings denied, unit tests
	cargo fmt --all --check
	cargo clippy --locked --all-targets -- -D warnings
	cargo test --locked --lib --bins

test: ## everything that CI checks, with the time of each part
	@scripts/test

bench: ## measure the release build beside what it is compared with; the table goes into docs/performance.md
	cargo bench --locked --bench bench

bench-cluster: ## measure the release build in a cluster beside a CRD; the table goes into docs/performance.md
	cargo build --release --locked
	assets=$$(tests/cluster/build) && KUBEBUILDER_ASSETS=$$assets KUBECTL=$$assets/kubectl \
	  IMAGEHUB_PROGRAMS=$${CARGO_TARGET_DIR:-$(CURDIR)/target}/release \
	  cargo test --locked --test it -- --ignored --nocapture cluster::performance

bench-ci: ## count the instructions of the hot paths, and compare them with benches/instructions.json
	@scripts/bench-ci

bench-ci-accept: ## take the counts of `make bench-ci` over
	@scripts/bench-ci --accept

build: ## the release binary, target/release/imagehub
	cargo build --release --locked

install: ## put the definition of Records, the catalogue's storage, into the cluster
	$(KUBECTL) apply --server-side -k deploy/crd

uninstall: ## delete the definition of Records, and the whole catalogue with it: only with YES=1, after undeploy
	@[ -n "$(YES)" ] || { echo 'this deletes the whole catalogue: `imagehub export` it first; then make uninstall YES=1' >&2; exit 1; }
	$(KUBECTL) delete --ignore-not-found -k deploy/crd

deploy: ## run IMG in the cluster, registered as an APIService (docs/cluster.md)
	$(KUBECTL) kustomize deploy/base | sed 's|image: labring/imagehub:.*|image: $(IMG)|' | $(KUBECTL) apply --server-side -f -

undeploy: ## remove it from the cluster; the catalogue stays
	$(KUBECTL) delete --ignore-not-found apiservice v1.imagehub.sealos.io
	$(KUBECTL) delete --ignore-not-found -k deploy/base
	$(KUBECTL) delete clusterrolebindings,clusterroles -l app.kubernetes.io/managed-by=imagehub

docker-build: ## build the image IMG, with DOCKER (docker)
	$(or $(DOCKER),docker) build -t $(IMG) .

kubefile: ## write manifests/ with IMG, for `sealos build -f Kubefile`
	@mkdir -p manifests registry
	cargo run --release --locked -- manifests --image $(IMG) > manifests/imagehub.yaml

openapi: ## write the generated files (openapi/, schema/) anew
	@scripts/openapi

kubectl: ## build the kubectl of the tests (once; kept in ~/.cache/imagehub) and print its path
	@echo "$$(tests/cluster/build kubectl)/kubectl"

cluster: ## build the control plane of the tests (once; kept in ~/.cache/imagehub) and print its folder
	@tests/cluster/build

clean: ## remove what was built here; the cache in ~/.cache/imagehub and ./imagehub-data stay
	cargo clean
