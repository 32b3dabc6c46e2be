// What must hold of a node's report for any text from outside: for tests and fuzzing, beside
// kube/testing/report_checks.h.
#pragma once

#include <string_view>

namespace pointsman::agent {

// Builds the status of a node on which `input` is what a kernel, a tool or an object said, in every
// place of it where such text comes in; and, where `input` is a Service, of one that serves it.
// Throws std::logic_error when the CRD's schema refuses the status, or when the same report a
// second time would be written again.
void CheckStatusReport(std::string_view input);

}  // namespace pointsman::agent
