"""What the network side may say: deliveries, stored before they are answered."""
