// The end of cpprestsdk's body stream: hands each piece of a response's body to whoever waits for
// it, without a copy and without a buffer that could grow: cpprestsdk reads on only when the piece
// was taken. Only the writing half of the stream interface is there.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <stdexcept>
#include <utility>

#include <cpprest/astreambuf.h>

namespace pointsman::kube {

class BodySink final : public concurrency::streams::details::streambuf_state_manager<uint8_t> {
 public:
  // Called on cpprestsdk's threads. The bytes stay valid until the event is set (to their count) or
  // given an exception, which fails the request.
  using Offer = std::function<void(const uint8_t* data, size_t size,
                                   pplx::task_completion_event<size_t> taken)>;

  explicit BodySink(Offer offer)
      : streambuf_state_manager<uint8_t>(std::ios_base::out), offer_(std::move(offer)) {}

  bool can_seek() const override { return false; }
  bool has_size() const override { return false; }
  size_t buffer_size(std::ios_base::openmode /*direction*/) const override { return 0; }
  void set_buffer_size(size_t /*size*/, std::ios_base::openmode /*direction*/) override {}
  size_t in_avail() const override { return 0; }
  pos_type getpos(std::ios_base::openmode /*direction*/) const override { return traits::eof(); }
  pos_type seekpos(pos_type /*pos*/, std::ios_base::openmode /*direction*/) override {
    return traits::eof();
  }
  pos_type seekoff(off_type /*offset*/, std::ios_base::seekdir /*way*/,
                   std::ios_base::openmode /*mode*/) override {
    return traits::eof();
  }
  bool acquire(uint8_t*& data, size_t& count) override {
    data = nullptr;
    count = 0;
    return false;
  }
  void release(uint8_t* /*data*/, size_t /*count*/) override {}

 protected:
  pplx::task<size_t> _putn(const uint8_t* data, size_t count) override {
    const pplx::task_completion_event<size_t> taken;
    offer_(data, count, taken);
    return pplx::create_task(taken);
  }
  pplx::task<int_type> _putc(uint8_t /*ch*/) override { return WriteOnly(); }
  pplx::task<bool> _sync() override { return pplx::task_from_result(true); }
  uint8_t* _alloc(size_t /*count*/) override { return nullptr; }
  void _commit(size_t /*count*/) override {}
  pplx::task<int_type> _bumpc() override { return WriteOnly(); }
  int_type _sbumpc() override { return traits::eof(); }
  pplx::task<int_type> _getc() override { return WriteOnly(); }
  int_type _sgetc() override { return traits::eof(); }
  pplx::task<int_type> _nextc() override { return WriteOnly(); }
  pplx::task<int_type> _ungetc() override { return WriteOnly(); }
  pplx::task<size_t> _getn(uint8_t* /*data*/, size_t /*count*/) override {
    return pplx::task_from_result<size_t>(0);
  }
  size_t _scopy(uint8_t* /*data*/, size_t /*count*/) override { return 0; }

 private:
  static pplx::task<int_type> WriteOnly() {
    return pplx::task_from_exception<int_type>(
        std::logic_error("a response's body is written in blocks only"));
  }

  const Offer offer_;
};

}  // namespace pointsman::kube
