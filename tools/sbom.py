#!/usr/bin/env python3
"""Tells what out/init and out/zosia.efi are made of, of either architecture.

Usage: tools/sbom.py auditable TARGET > FILE
       tools/sbom.py cyclonedx TARGET out/manifest.txt > out/zosia.cdx.json

auditable writes the list of crates that `cargo auditable` would embed: JSON,
compressed with zlib, for the section .dep-v0, where scanners such as `cargo
audit bin` look for it. cyclonedx writes a software bill of materials (CycloneDX
1.6) of everything in the EFI file: the crates, llama.cpp inside one of them,
the C libraries, the kernel. It reads the manifest. Both depend on nothing
but Cargo.lock, the target and the tools: the same input, the same bytes.
"""

import json
import pathlib
import re
import subprocess
import sys
import zlib

TOP = pathlib.Path(__file__).resolve().parent.parent
ROOT = "init"
REGISTRY = "registry+https://github.com/rust-lang/crates.io-index"


def cargo(*arguments):
    command = ["cargo", *arguments, "--locked", "--offline"]
    return subprocess.run(command, cwd=TOP, check=True, stdout=subprocess.PIPE, text=True).stdout


def packages_in_tree(target, edges):
    """What is really used: `cargo metadata` also has what only other members
    of the workspace ask for."""
    lines = cargo("tree", "--package", ROOT, "--target", target, "--edges", edges, "--prefix", "none")
    words = (line.split() for line in lines.splitlines() if line)
    return {(name, version.removeprefix("v")) for name, version, *_ in words}


class Crates:
    """The crates that make the executable, those it is built with among them."""

    def __init__(self, target):
        metadata = json.loads(cargo("metadata", "--format-version", "1", "--filter-platform", target))
        self.linked = packages_in_tree(target, "normal,no-proc-macro")
        used = packages_in_tree(target, "normal,build")
        by_id = {p["id"]: p for p in metadata["packages"] if (p["name"], p["version"]) in used}
        self.packages = sorted(by_id.values(), key=lambda p: (p["name"], p["version"]))
        self.edges = {
            node["id"]: sorted(
                dep["pkg"]
                for dep in node["deps"]
                if dep["pkg"] in by_id and any(kind["kind"] != "dev" for kind in dep["dep_kinds"])
            )
            for node in metadata["resolve"]["nodes"]
            if node["id"] in by_id
        }

    def is_linked(self, package):
        return (package["name"], package["version"]) in self.linked


def auditable(target):
    crates = Crates(target)
    index = {package["id"]: at for at, package in enumerate(crates.packages)}
    listed = []
    for package in crates.packages:
        entry = {"name": package["name"], "version": package["version"]}
        entry["source"] = "crates.io" if package["source"] == REGISTRY else "local"
        if not crates.is_linked(package):
            entry["kind"] = "build"
        dependencies = sorted(index[id] for id in crates.edges[package["id"]])
        if dependencies:
            entry["dependencies"] = dependencies
        if package["name"] == ROOT:
            entry["root"] = True
        listed.append(entry)
    text = json.dumps({"packages": listed}, separators=(",", ":"))
    sys.stdout.buffer.write(zlib.compress(text.encode(), 9))


def manifest(path):
    lines = (TOP / path).read_text().splitlines()
    return dict(line.split("=", 1) for line in lines)


def checksums():
    """SHA-256 of each crate's archive, from Cargo.lock."""
    entry = re.compile(r'name = "(.*)"\nversion = "(.*)"\nsource = ".*"\nchecksum = "(.*)"')
    return {(name, version): sha for name, version, sha in entry.findall((TOP / "Cargo.lock").read_text())}


def component(kind, name, version, licence, sha256=None, purl=None, **more):
    described = {"type": kind, "bom-ref": purl or f"{name}@{version}", "name": name, "version": version}
    described["licenses"] = [{"expression": licence.replace("/", " OR ")}]
    if sha256:
        described["hashes"] = [{"alg": "SHA-256", "content": sha256}]
    if purl:
        described["purl"] = purl
    return described | more


def ggml_version(package):
    text = (pathlib.Path(package["manifest_path"]).parent / "llama.cpp/ggml/CMakeLists.txt").read_text()
    parts = [re.search(rf"set\(GGML_VERSION_{part} (\d+)\)", text) for part in ("MAJOR", "MINOR", "PATCH")]
    return ".".join(part.group(1) for part in parts)


def glibc_version(target):
    compiler = target.replace("-unknown", "") + "-gcc"
    command = [compiler, "-E", "-dM", "-include", "features.h", "-x", "c", "/dev/null"]
    macros = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return ".".join(re.search(rf"define {name} (\d+)", macros).group(1) for name in ("__GLIBC__", "__GLIBC_MINOR__"))


def cyclonedx(target, manifest_path):
    made = manifest(manifest_path)
    version = made["zosia.version"]
    crates = Crates(target)
    archives = checksums()
    refs = {p["id"]: f"pkg:cargo/{p['name']}@{p['version']}" for p in crates.packages}
    components = []
    depends = {}
    for package in crates.packages:
        ref = refs[package["id"]]
        depends[ref] = sorted(refs[id] for id in crates.edges[package["id"]])
        if package["name"] == ROOT:
            init = ref
            components.append(component("application", ROOT, version, "Apache-2.0", made["init.sha256"], ref))
            continue
        of_archive = archives.get((package["name"], package["version"]))
        scope = "required" if crates.is_linked(package) else "excluded"
        described = component("library", package["name"], package["version"], package["license"], of_archive, ref)
        components.append(described | {"scope": scope})
        if package["name"] == "llama-cpp-sys-2":
            ggml = component("library", "ggml (in llama.cpp)", ggml_version(package), "MIT")
            components.append(ggml)
            depends[ref].append(ggml["bom-ref"])
    rust = re.match(r"rustc (\S+)", made["rustc"]).group(1)
    gcc = re.search(r"(\d+\.\d+\.\d+)$", made["cc"]).group(1)
    linked = [
        component("library", "rust-std", rust, "MIT OR Apache-2.0"),
        component("library", "glibc", glibc_version(target), "LGPL-2.1-or-later"),
        component("library", "libstdc++", gcc, "GPL-3.0-or-later WITH GCC-exception-3.1"),
    ]
    depends[init] += [library["bom-ref"] for library in linked]
    kernel = component(
        "operating-system",
        "linux",
        made["kernel.version"],
        "GPL-2.0-only WITH Linux-syscall-note",
        made["kernel.source.sha256"],
        f"pkg:deb/debian/{made['kernel.package']}@{made['kernel.version'].replace('~', '%7E')}?arch=all",
    )
    whole = component("operating-system", "zosia", version, "Apache-2.0", made["zosia.efi.sha256"])
    depends[whole["bom-ref"]] = [init, kernel["bom-ref"]]
    bom = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": whole},
        "components": [*components, *linked, kernel],
        "dependencies": [{"ref": ref, "dependsOn": on} for ref, on in sorted(depends.items())],
    }
    json.dump(bom, sys.stdout, indent=2)
    print()


def main():
    match sys.argv[1:]:
        case ["auditable", target]:
            auditable(target)
        case ["cyclonedx", target, manifest_path]:
            cyclonedx(target, manifest_path)
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main()
