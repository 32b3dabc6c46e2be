#include "e2e/control-plane/schema/cel/parser.h"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cstdint>
#include <string_view>
#include <system_error>
#include <utility>

namespace pointsman::e2e::schema::cel {
namespace {

std::string Describe(const std::string& source, size_t offset, const std::string& what) {
  offset = std::min(offset, source.size());
  auto line = std::count(source.begin(), source.begin() + static_cast<ptrdiff_t>(offset), '\n');
  size_t start = offset == 0 ? std::string::npos : source.rfind('\n', offset - 1);
  start = start == std::string::npos ? 0 : start + 1;
  std::string text = source.substr(start, source.find('\n', start) - start);
  return "compilation failed: ERROR: <input>:" + std::to_string(line + 1) + ":" +
         std::to_string(offset - start + 1) + ": " + what + "\n | " + text + "\n | " +
         std::string(offset - start, '.') + "^";
}

void AppendUtf8(std::string& out, uint32_t code) {
  if (code < 0x80) {
    out += static_cast<char>(code);
  } else if (code < 0x800) {
    out += static_cast<char>(0xc0 | (code >> 6));
    out += static_cast<char>(0x80 | (code & 0x3f));
  } else if (code < 0x10000) {
    out += static_cast<char>(0xe0 | (code >> 12));
    out += static_cast<char>(0x80 | ((code >> 6) & 0x3f));
    out += static_cast<char>(0x80 | (code & 0x3f));
  } else {
    out += static_cast<char>(0xf0 | (code >> 18));
    out += static_cast<char>(0x80 | ((code >> 12) & 0x3f));
    out += static_cast<char>(0x80 | ((code >> 6) & 0x3f));
    out += static_cast<char>(0x80 | (code & 0x3f));
  }
}

struct Token {
  enum class Kind { kEnd, kIdent, kLiteral, kSign };
  Kind kind = Kind::kEnd;
  size_t offset = 0;
  std::string text;
  Literal literal;
};

class Lexer {
 public:
  explicit Lexer(const std::string& source) : source_(source) {}

  std::vector<Token> All() {
    std::vector<Token> tokens;
    do {
      tokens.push_back(Next());
    } while (tokens.back().kind != Token::Kind::kEnd);
    return tokens;
  }

 private:
  char At(size_t i) const { return i < source_.size() ? source_[i] : '\0'; }
  static bool IsDigit(char c) { return c >= '0' && c <= '9'; }
  static bool IsWord(char c) {
    return IsDigit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
  }

  Token Next() {
    for (;;) {
      while (At(pos_) == ' ' || At(pos_) == '\t' || At(pos_) == '\n' || At(pos_) == '\r')
        ++pos_;
      if (At(pos_) != '/' || At(pos_ + 1) != '/') break;
      pos_ = std::min(source_.find('\n', pos_), source_.size());
    }
    Token token;
    token.offset = pos_;
    if (pos_ >= source_.size()) return token;
    char c = At(pos_);
    if (IsDigit(c) || (c == '.' && IsDigit(At(pos_ + 1)))) return Number(token);
    if (c == '"' || c == '\'') return String(token, false, false);
    if (IsWord(c)) {
      size_t end = pos_;
      while (IsWord(At(end)))
        ++end;
      token.text = source_.substr(pos_, end - pos_);
      if (end - pos_ <= 2 && (At(end) == '"' || At(end) == '\'')) {
        bool raw = token.text.find_first_of("rR") != std::string::npos;
        bool bytes = token.text.find_first_of("bB") != std::string::npos;
        if (token.text.find_first_not_of("rRbB") == std::string::npos) {
          pos_ = end;
          return String(token, raw, bytes);
        }
      }
      pos_ = end;
      token.kind = Token::Kind::kIdent;
      if (token.text == "true" || token.text == "false") {
        token.kind = Token::Kind::kLiteral;
        token.literal = token.text == "true";
      } else if (token.text == "null") {
        token.kind = Token::Kind::kLiteral;
        token.literal = nullptr;
      }
      return token;
    }
    token.kind = Token::Kind::kSign;
    for (const char* sign : {"&&", "||", "==", "!=", "<=", ">="}) {
      if (source_.compare(pos_, 2, sign) == 0) {
        token.text = sign;
        pos_ += 2;
        return token;
      }
    }
    token.text = std::string(1, c);
    if (token.text.find_first_of("()[]{}.,:?!+-*/%<>") == std::string::npos) {
      throw CompileError(source_, pos_,
                         "Syntax error: token recognition error at: '" + token.text + "'");
    }
    ++pos_;
    return token;
  }

  Token Number(Token token) {
    size_t end = pos_;
    bool hex = At(end) == '0' && (At(end + 1) == 'x' || At(end + 1) == 'X');
    bool real = false;
    if (hex) {
      end += 2;
      while (std::isxdigit(static_cast<unsigned char>(At(end))))
        ++end;
    } else {
      while (IsDigit(At(end)))
        ++end;
      if (At(end) == '.' && IsDigit(At(end + 1))) {
        real = true;
        ++end;
        while (IsDigit(At(end)))
          ++end;
      }
      if (At(end) == 'e' || At(end) == 'E') {
        real = true;
        ++end;
        if (At(end) == '+' || At(end) == '-') ++end;
        while (IsDigit(At(end)))
          ++end;
      }
    }
    token.kind = Token::Kind::kLiteral;
    token.text = source_.substr(pos_, end - pos_);
    const char* first = token.text.data() + (hex ? 2 : 0);
    const char* last = token.text.data() + token.text.size();
    bool ok = true;
    if (real) {
      token.literal = std::stod(token.text);
    } else {
      uint64_t value = 0;
      ok = std::from_chars(first, last, value, hex ? 16 : 10).ec == std::errc();
      if (At(end) == 'u' || At(end) == 'U') {
        ++end;
        token.literal = value;
      } else {
        // The magnitude of the smallest integer is allowed here: its minus sign comes before it.
        ok = ok && value <= uint64_t{1} << 63;
        token.literal = static_cast<int64_t>(value);
      }
    }
    if (!ok || IsWord(At(end))) throw CompileError(source_, pos_, "invalid number literal");
    pos_ = end;
    return token;
  }

  Token String(Token token, bool raw, bool bytes) {
    char quote = At(pos_);
    std::string close(1, quote);
    if (At(pos_ + 1) == quote && At(pos_ + 2) == quote) close = std::string(3, quote);
    pos_ += close.size();
    std::string out;
    while (source_.compare(pos_, close.size(), close) != 0) {
      if (pos_ >= source_.size() || (close.size() == 1 && At(pos_) == '\n')) {
        throw CompileError(source_, token.offset, "Syntax error: unterminated string literal");
      }
      if (raw || At(pos_) != '\\') {
        out += source_[pos_++];
      } else {
        Escape(out, bytes);
      }
    }
    pos_ += close.size();
    token.kind = Token::Kind::kLiteral;
    if (bytes) {
      token.literal = Bytes{std::move(out)};
    } else {
      token.literal = std::move(out);
    }
    return token;
  }

  void Escape(std::string& out, bool bytes) {
    size_t start = pos_++;
    char c = At(pos_++);
    static constexpr std::string_view kFrom = "abfnrtv\\?\"'`";
    static constexpr std::string_view kTo = "\a\b\f\n\r\t\v\\?\"'`";
    if (size_t i = kFrom.find(c); c != '\0' && i != std::string_view::npos) {
      out += kTo[i];
      return;
    }
    size_t digits = c == 'x' || c == 'X' ? 2 : c == 'u' ? 4 : c == 'U' ? 8 : 3;
    int base = 16;
    if (c >= '0' && c <= '3') {
      base = 8;
      --pos_;
    } else if (digits == 3) {
      throw CompileError(source_, start, "Syntax error: invalid escape sequence");
    }
    uint32_t code = 0;
    std::string text = source_.substr(std::min(pos_, source_.size()), digits);
    auto result = std::from_chars(text.data(), text.data() + text.size(), code, base);
    if (result.ec != std::errc() || result.ptr != text.data() + digits || code > 0x10ffff ||
        (code >= 0xd800 && code < 0xe000)) {
      throw CompileError(source_, start, "Syntax error: invalid escape sequence");
    }
    pos_ += digits;
    if (bytes && digits < 4) {
      out += static_cast<char>(code);
    } else {
      AppendUtf8(out, code);
    }
  }

  const std::string& source_;
  size_t pos_ = 0;
};

class Parser {
 public:
  explicit Parser(const std::string& source) : source_(source), tokens_(Lexer(source).All()) {}

  NodePtr Whole() {
    NodePtr node = Ternary();
    if (Peek().kind != Token::Kind::kEnd) Unexpected();
    return node;
  }

 private:
  const Token& Peek(size_t ahead = 0) const {
    return tokens_[std::min(next_ + ahead, tokens_.size() - 1)];
  }
  bool IsSign(std::string_view text, size_t ahead = 0) const {
    return Peek(ahead).kind == Token::Kind::kSign && Peek(ahead).text == text;
  }
  bool Take(std::string_view text) {
    if (!IsSign(text)) return false;
    ++next_;
    return true;
  }
  void Expect(std::string_view text) {
    if (!Take(text)) Unexpected();
  }
  [[noreturn]] void Unexpected() const {
    const Token& token = Peek();
    throw CompileError(source_, token.offset,
                       token.kind == Token::Kind::kEnd
                           ? "Syntax error: mismatched input '<EOF>'"
                           : "Syntax error: extraneous input '" +
                                 source_.substr(token.offset, Peek(1).offset - token.offset) + "'");
  }
  NodePtr Make(Node::Kind kind, size_t offset, std::string name = "") const {
    auto node = std::make_unique<Node>();
    node->kind = kind;
    node->offset = offset;
    node->name = std::move(name);
    return node;
  }

  NodePtr Ternary() {
    if (++depth_ > 250) throw CompileError(source_, Peek().offset, "expression recursion limit");
    NodePtr condition = Binary(0);
    if (size_t offset = Peek().offset; Take("?")) {
      NodePtr node = Make(Node::Kind::kCall, offset, "?:");
      node->args.push_back(std::move(condition));
      node->args.push_back(Binary(0));
      Expect(":");
      node->args.push_back(Ternary());
      condition = std::move(node);
    }
    --depth_;
    return condition;
  }

  // Levels from loosest to tightest.
  NodePtr Binary(size_t level) {
    static const std::vector<std::vector<std::string>> kLevels = {
        {"||"}, {"&&"}, {"==", "!=", "<=", ">=", "<", ">", "in"}, {"+", "-"}, {"*", "/", "%"}};
    if (level == kLevels.size()) return Unary();
    NodePtr left = Binary(level + 1);
    for (;;) {
      const Token& token = Peek();
      bool candidate = token.kind == Token::Kind::kSign || (token.kind == Token::Kind::kIdent);
      const auto& signs = kLevels[level];
      if (!candidate || std::find(signs.begin(), signs.end(), token.text) == signs.end()) {
        return left;
      }
      NodePtr node = Make(Node::Kind::kCall, token.offset, token.text);
      ++next_;
      node->args.push_back(std::move(left));
      node->args.push_back(Binary(level + 1));
      left = std::move(node);
    }
  }

  NodePtr Unary() {
    const Token& token = Peek();
    if (IsSign("!") || IsSign("-")) {
      if (++depth_ > 250) throw CompileError(source_, token.offset, "expression recursion limit");
      ++next_;
      NodePtr node = Make(Node::Kind::kCall, token.offset, token.text);
      node->args.push_back(Unary());
      --depth_;
      Node& arg = *node->args[0];
      if (token.text == "-" && arg.kind == Node::Kind::kLiteral) {
        if (auto* i = std::get_if<int64_t>(&arg.literal)) {
          arg.literal = static_cast<int64_t>(0 - static_cast<uint64_t>(*i));
          return std::move(node->args[0]);
        }
        if (auto* d = std::get_if<double>(&arg.literal)) {
          arg.literal = -*d;
          return std::move(node->args[0]);
        }
      }
      return node;
    }
    return Member();
  }

  NodePtr Member() {
    NodePtr node = Primary();
    for (;;) {
      size_t offset = Peek().offset;
      if (Take(".")) {
        if (IsSign("?"))
          throw CompileError(source_, offset, "optional field selection is not supported");
        if (Peek().kind != Token::Kind::kIdent) Unexpected();
        Token name = Peek();
        ++next_;
        if (Take("(")) {
          node = Method(std::move(node), name);
        } else {
          NodePtr select = Make(Node::Kind::kSelect, offset, name.text);
          select->args.push_back(std::move(node));
          node = std::move(select);
        }
      } else if (Take("[")) {
        NodePtr index = Make(Node::Kind::kIndex, offset);
        index->args.push_back(std::move(node));
        index->args.push_back(Ternary());
        Expect("]");
        node = std::move(index);
      } else {
        return node;
      }
    }
  }

  std::vector<NodePtr> Arguments(std::string_view close) {
    std::vector<NodePtr> args;
    while (!Take(close)) {
      args.push_back(Ternary());
      if (!IsSign(close)) Expect(",");
    }
    return args;
  }

  NodePtr Method(NodePtr target, const Token& name) {
    std::vector<NodePtr> args = Arguments(")");
    static const std::vector<std::string> kMacros = {"all", "exists", "exists_one", "map",
                                                     "filter"};
    bool macro = std::find(kMacros.begin(), kMacros.end(), name.text) != kMacros.end() &&
                 (args.size() == 2 || (name.text == "map" && args.size() == 3));
    NodePtr node = Make(macro ? Node::Kind::kMacro : Node::Kind::kMethod, name.offset, name.text);
    node->args.push_back(std::move(target));
    if (macro) {
      if (args[0]->kind != Node::Kind::kIdent) {
        throw CompileError(source_, args[0]->offset, "argument must be a simple name");
      }
      node->variable = args[0]->name;
      args.erase(args.begin());
    }
    for (auto& arg : args)
      node->args.push_back(std::move(arg));
    return node;
  }

  NodePtr Primary() {
    Token token = Peek();
    if (token.kind == Token::Kind::kLiteral) {
      ++next_;
      NodePtr node = Make(Node::Kind::kLiteral, token.offset);
      node->literal = std::move(token.literal);
      return node;
    }
    if (token.kind == Token::Kind::kIdent && token.text != "in") {
      ++next_;
      if (!Take("(")) return Make(Node::Kind::kIdent, token.offset, token.text);
      NodePtr node = Make(Node::Kind::kCall, token.offset, token.text);
      node->args = Arguments(")");
      if (token.text != "has") return node;
      if (node->args.size() != 1 || node->args[0]->kind != Node::Kind::kSelect) {
        throw CompileError(source_, token.offset, "invalid argument to has() macro");
      }
      NodePtr select = std::move(node->args[0]);
      select->kind = Node::Kind::kHas;
      select->offset = token.offset;
      return select;
    }
    if (Take("(")) {
      NodePtr node = Ternary();
      Expect(")");
      return node;
    }
    if (Take("[")) {
      NodePtr node = Make(Node::Kind::kList, token.offset);
      node->args = Arguments("]");
      return node;
    }
    if (Take("{")) {
      NodePtr node = Make(Node::Kind::kMap, token.offset);
      while (!Take("}")) {
        node->args.push_back(Ternary());
        Expect(":");
        node->args.push_back(Ternary());
        if (!IsSign("}")) Expect(",");
      }
      return node;
    }
    Unexpected();
  }

  const std::string& source_;
  std::vector<Token> tokens_;
  size_t next_ = 0;
  int depth_ = 0;
};

}  // namespace

CompileError::CompileError(const std::string& source, size_t offset, const std::string& what)
    : std::runtime_error(Describe(source, offset, what)) {}

NodePtr Parse(const std::string& source) {
  return Parser(source).Whole();
}

}  // namespace pointsman::e2e::schema::cel
