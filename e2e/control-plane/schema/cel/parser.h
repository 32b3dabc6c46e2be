// The syntax of the Common Expression Language (github.com/google/cel-spec, langdef).
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <variant>
#include <vector>

namespace pointsman::e2e::schema::cel {

// Text as the server gives it: `compilation failed: ERROR: <input>:1:6: …` with the line and a
// caret.
class CompileError : public std::runtime_error {
 public:
  CompileError(const std::string& source, size_t offset, const std::string& what);
};

struct Bytes {
  std::string data;
  auto operator<=>(const Bytes&) const = default;
};

using Literal = std::variant<std::nullptr_t, bool, int64_t, uint64_t, double, std::string, Bytes>;

struct Node {
  enum class Kind {
    kLiteral,
    kIdent,   // name
    kSelect,  // args[0].name
    kHas,     // has(args[0].name)
    kIndex,   // args[0][args[1]]
    kCall,    // name(args…): functions, and operators by their sign ("!" and "-" may be unary)
    kMethod,  // args[0].name(args[1]…)
    kMacro,   // args[0].name(variable, args[1]…): all, exists, exists_one, map, filter
    kList,    // args
    kMap,     // args: key, value, key, value…
  };
  Kind kind = Kind::kLiteral;
  size_t offset = 0;  // in the source, bytes
  std::string name;
  std::string variable;
  Literal literal;
  std::vector<std::unique_ptr<Node>> args;
};

using NodePtr = std::unique_ptr<Node>;

// Throws CompileError. Nesting is bounded (250 levels, as in cel-go).
NodePtr Parse(const std::string& source);

}  // namespace pointsman::e2e::schema::cel
