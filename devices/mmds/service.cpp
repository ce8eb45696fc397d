// SPDX-License-Identifier: Apache-2.0
#include "devices/mmds/service.hpp"

#include <sys/random.h>

namespace inox::devices::mmds {
namespace {

/// Initial sequence numbers must not be guessable (RFC 9293, 3.4.1), although only this guest can send here.
std::uint32_t random_number() {
    std::uint32_t number = 0;
    (void)!::getrandom(&number, sizeof number, GRND_NONBLOCK);
    return number;
}

} // namespace

Result<std::shared_ptr<Service>> Service::create(const MetadataSource& source, EventLoop& loop,
                                                 const ServiceOptions& options) {
    const Responder responder{source, TRY(SessionTokens::create()), options.http};
    return std::shared_ptr<Service>{new Service{loop, Stack{options.address, responder, random_number}}};
}

void Service::take(std::span<const std::byte> frame) noexcept {
    stack_.take(frame, Stack::Time::clock::now());
    arm();
}

std::size_t Service::next(std::span<std::byte> frame) noexcept {
    const auto size = stack_.next(frame, Stack::Time::clock::now());
    arm();
    return size;
}

/// A timer that fires too early does no harm: the next deadline is computed again.
void Service::arm() {
    const auto deadline = stack_.deadline();
    if (!deadline || (armed_ && *armed_ <= *deadline))
        return;
    armed_ = deadline;
    timer_ = loop_.after(*deadline - Stack::Time::clock::now(), [this] {
        armed_.reset();
        if (ready_)
            ready_();
    });
}

} // namespace inox::devices::mmds
