#include "kube/testing/corpus.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <stdexcept>

namespace pointsman::testing {
namespace {

std::filesystem::path FolderOf(std::string_view name) {
  return std::filesystem::path(POINTSMAN_FUZZ_CORPUS) / name;
}

}  // namespace

std::vector<std::string> Corpus(std::string_view name) {
  std::vector<std::string> files;
  for (const auto& file : std::filesystem::directory_iterator(FolderOf(name)))
    files.push_back(file.path().filename());
  if (files.empty()) throw std::runtime_error("no files in " + FolderOf(name).string());
  std::sort(files.begin(), files.end());
  std::vector<std::string> corpus;
  corpus.reserve(files.size());
  for (const std::string& file : files)
    corpus.push_back(CorpusFile(name, file));
  return corpus;
}

std::string CorpusFile(std::string_view name, std::string_view file) {
  const std::filesystem::path path = FolderOf(name) / file;
  std::ifstream in(path, std::ios::binary);
  std::ostringstream text;
  // An empty file is no error, though operator<< takes it for one.
  if (in.peek() != std::ifstream::traits_type::eof()) text << in.rdbuf();
  if (!in.is_open() || in.bad()) throw std::runtime_error("cannot read " + path.string());
  return text.str();
}

}  // namespace pointsman::testing
