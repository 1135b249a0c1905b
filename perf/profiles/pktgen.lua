-- Pktgen-DPDK: UDP from many clients through the appliance of appliance.toml, and the highest rate at which no more is lost
-- than is tolerated, by halving (RFC 2544 section 26.1). Port 0 is the clients, port 1 receives what the backend would.
--
--   pktgen -l 0-2 -n 4 -a 0000:af:00.0 -a 0000:af:00.1 -- -P -m "1.0,2.1" -f pktgen.lua
--
-- Set the station to the MAC address that `millrace show ports` says of port "clients".

package.path = package.path .. ";?.lua;test/?.lua;app/?.lua;"
require "Pktgen"

local station = "02:00:00:00:00:01"
local sizes = { 64, 128, 256, 512, 1024, 1280, 1518 } -- with the check sequence
local hosts, ports_each = 16, 60000                   -- clients: 16 addresses with 60,000 ports each
local trial_ms, final_ms, settle_ms = 10000, 60000, 2000
local tolerance = 0.0                                 -- share of packets that may be lost: 0 is no-drop, 0.001 partial drop
local precision = 0.5                                 -- percent of line rate

local client, server = 0, 1

local function set_up(size)
    local port = tostring(client)
    pktgen.set_type(port, "ipv4")
    pktgen.set_proto(port, "udp")
    pktgen.set(port, "count", 0) -- until it is stopped
    pktgen.set(port, "size", size)

    pktgen.range.dst_mac(port, "start", station)
    pktgen.range.ip_proto(port, "udp")

    pktgen.range.src_ip(port, "start", "16.0.0.1")
    pktgen.range.src_ip(port, "inc", "0.0.0.1")
    pktgen.range.src_ip(port, "min", "16.0.0.1")
    pktgen.range.src_ip(port, "max", "16.0.0." .. hosts)

    pktgen.range.dst_ip(port, "start", "198.18.1.10")
    pktgen.range.dst_ip(port, "inc", "0.0.0.0")
    pktgen.range.dst_ip(port, "min", "198.18.1.10")
    pktgen.range.dst_ip(port, "max", "198.18.1.10")

    pktgen.range.src_port(port, "start", 1024)
    pktgen.range.src_port(port, "inc", 1)
    pktgen.range.src_port(port, "min", 1024)
    pktgen.range.src_port(port, "max", 1024 + ports_each - 1)

    pktgen.range.dst_port(port, "start", 53)
    pktgen.range.dst_port(port, "inc", 0)
    pktgen.range.dst_port(port, "min", 53)
    pktgen.range.dst_port(port, "max", 53)

    pktgen.range.pkt_size(port, "start", size)
    pktgen.range.pkt_size(port, "inc", 0)
    pktgen.range.pkt_size(port, "min", size)
    pktgen.range.pkt_size(port, "max", size)

    pktgen.set_range(port, "on")
end

-- Sends at this percent of the line's rate; gives packets sent, and the share that did not come back.
local function trial(rate, ms)
    pktgen.set(tostring(client), "rate", rate)
    pktgen.clr()
    pktgen.start(tostring(client))
    pktgen.delay(ms)
    pktgen.stop(tostring(client))
    pktgen.delay(settle_ms)
    local sent = pktgen.portStats(tostring(client), "port")[client].opackets
    local back = pktgen.portStats(tostring(server), "port")[server].ipackets
    if sent == 0 then
        return 0, 1
    end
    return sent, math.max(0, (sent - back) / sent)
end

for _, size in ipairs(sizes) do
    set_up(size)
    trial(10, trial_ms) -- opens the sessions; not judged
    local low, high = 0, 100
    local _, loss = trial(high, trial_ms)
    if loss <= tolerance then
        low = high
    end
    while high - low > precision do
        local middle = (low + high) / 2
        _, loss = trial(middle, trial_ms)
        if loss <= tolerance then
            low = middle
        else
            high = middle
        end
    end
    local sent
    sent, loss = trial(low, final_ms)
    print(string.format("%4d bytes: %6.2f %% of the line, %8.3f Mpps, lost %.6f %%",
        size, low, sent / (final_ms / 1000) / 1e6, loss * 100))
end
pktgen.quit()
