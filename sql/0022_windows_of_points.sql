-- Windows sum what was given and taken by hand, and what redemptions took, as well. (What they summed before knows nothing of it
-- until a rebuild.)
ALTER TABLE points_windows ADD points_awarded bigint NOT NULL DEFAULT 0, ADD points_redeemed bigint NOT NULL DEFAULT 0;
CREATE OR REPLACE VIEW shop_windows AS
SELECT shop, size, w.zone, start,
    (CASE min(partition) WHEN -1 THEN sum(orders) FILTER (WHERE partition = -1)
        ELSE sum(orders) END)::bigint AS orders,
    (CASE min(partition) WHEN -1 THEN sum(net) FILTER (WHERE partition = -1)
        ELSE sum(net) END)::bigint AS net,
    (CASE min(partition) WHEN -1 THEN sum(points_earned) FILTER (WHERE partition = -1)
        ELSE sum(points_earned) END)::bigint AS points_earned,
    (CASE min(partition) WHEN -1 THEN sum(points_reversed) FILTER (WHERE partition = -1)
        ELSE sum(points_reversed) END)::bigint AS points_reversed,
    (CASE min(partition) WHEN -1 THEN sum(customers) FILTER (WHERE partition = -1)
        ELSE sum(customers) END)::bigint AS customers,
    (CASE min(partition) WHEN -1 THEN sum(guest_orders) FILTER (WHERE partition = -1)
        ELSE sum(guest_orders) END)::bigint AS guest_orders,
    (CASE min(partition) WHEN -1 THEN sum(guest_net) FILTER (WHERE partition = -1)
        ELSE sum(guest_net) END)::bigint AS guest_net,
    (CASE min(partition) WHEN -1 THEN sum(points_awarded) FILTER (WHERE partition = -1)
        ELSE sum(points_awarded) END)::bigint AS points_awarded,
    (CASE min(partition) WHEN -1 THEN sum(points_redeemed) FILTER (WHERE partition = -1)
        ELSE sum(points_redeemed) END)::bigint AS points_redeemed
FROM points_windows w JOIN programs p USING (shop)
WHERE w.zone = CASE size WHEN 'day' THEN p.program ->> 'zone' ELSE 'UTC' END
GROUP BY shop, size, w.zone, start;
