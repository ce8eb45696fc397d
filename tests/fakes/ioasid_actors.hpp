// SPDX-License-Identifier: Apache-2.0
// Those who take part in the life of an id, for tests of the IOASID core.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "iommu/pasid/ioasid.hpp"

namespace inox::fakes {

using Event = iommu::IoasidEvent;

/// Does what it is told on each event, and writes down what it heard: "free 3".
class Subscriber final : public iommu::IoasidNotifier {
public:
    using Handler = std::function<void(const Event&, iommu::IoasidContext&)>;
    Subscriber() = default;
    explicit Subscriber(Handler handler) : handler_{std::move(handler)} {}
    void on_ioasid(const Event& event, iommu::IoasidContext& context) noexcept override;
    std::vector<std::string> heard{};

private:
    Handler handler_{};
};

/// An allocator that hands out what it is given.
class ListAllocator final : public iommu::IoasidAllocator {
public:
    std::optional<iommu::HostPasid> allocate(iommu::HostPasid, iommu::HostPasid) noexcept override;
    void release(iommu::HostPasid id) noexcept override { released.push_back(id.raw()); }
    std::vector<std::uint32_t> next{};
    std::vector<std::uint32_t> released{};
};

/// A core with two sets, and short words for what tests do most.
struct Ioasids {
    explicit Ioasids(std::uint32_t last = iommu::max_ioasid, std::uint32_t quota = 16);
    iommu::IoasidCore core;
    iommu::IoasidSetRef a;
    iommu::IoasidSetRef b;

    iommu::IoasidResult<iommu::HostPasid> alloc(const iommu::IoasidSetRef& set, std::uint32_t min = 1,
                                                std::uint32_t max = iommu::max_ioasid);
    /// 0 when the id is free.
    [[nodiscard]] unsigned references(iommu::HostPasid id) const;
    [[nodiscard]] bool pending(iommu::HostPasid id) const;
    [[nodiscard]] std::uint32_t used(const iommu::IoasidSetRef& set) const;
};

/// For `using namespace` in tests of the core.
namespace ioasid_words {
using fakes::Event;
using fakes::Ioasids;
using fakes::Subscriber;
using iommu::GuestPasid;
using iommu::HostPasid;
using iommu::IoasidErrc;
using iommu::IoasidHolder;
using iommu::IoasidPriority;
using iommu::IoasidToken;
using Heard = std::vector<std::string>;
inline constexpr auto process = IoasidToken::Owner::process;
inline constexpr auto plain = IoasidToken::Owner::plain;

template <class T> IoasidErrc error(const iommu::IoasidResult<T>& result) {
    if (result)
        throw std::logic_error{"there is no error"};
    return result.error();
}
} // namespace ioasid_words

} // namespace inox::fakes
