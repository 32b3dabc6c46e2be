// YAML as JSON values, with the line that each value is on.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

namespace pointsman::kube {

struct YamlDocument {
  nlohmann::json value;
  // "ipvs.scheduler", "nodePortAddresses[1]" -> line, from 1. Paths longer than 512 bytes are left
  // out: the value around them tells where they are.
  std::map<std::string, int, std::less<>> lines;
  // Keys that are there twice, by path, with the line of the last: that one counts, as in Go.
  std::map<std::string, int> duplicates;
  // Something follows the document after a "---". Kubernetes reads the first document of a
  // configuration file and never looks at what comes after it.
  bool more = false;

  // The line of `path` or of the nearest value around it; 0: none.
  int LineOf(const std::string& path) const;
};

// The first document in `text`, which is UTF-8, or UTF-16 with a byte order mark. Read as the
// decoder of Kubernetes does it (sigs.k8s.io/yaml, YAML 1.1: resolve.go, decode.go): y, yes, no, on
// and off are booleans, quoted words are strings, `<<` merges, of a key that is there twice the
// last counts. Throws std::invalid_argument ("line 3: …", valid UTF-8, at most 1 KiB) for what is
// no YAML, keys that are no strings, an alias of what it is within, nesting deeper than 32, keys
// longer than 1 KiB, and more than 10,000 values or 16 times the text's size with those that
// aliases repeat: it is bounded while it is read.
YamlDocument ParseYaml(std::string_view text);

// "14", "-0x1f", "0755", "0o17", "0b11", "1_000": as Go's strconv.ParseInt with base 0, which is
// how YAML's decoder and the flags of kube-proxy read integers; nullopt when it is none or does not
// fit.
std::optional<int64_t> ParseGoInteger(std::string_view text);

}  // namespace pointsman::kube
